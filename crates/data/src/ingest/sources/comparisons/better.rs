//! Verdicts of comparisons: which of two completions is better.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::number;
use crate::{
    DataError,
    ingest::{
        raw::{Flaw, RejectReason},
        sources::{
            columns::{Columns, RecordField},
            excerpt::excerpt_value,
            json::Object,
            numbers,
            thumb_words::{Word, spelling},
        },
    },
};

/// Meaning of the verdicts (`source.better`): words, the sign of a strength, or one column for each
/// verdict. Without any, common words count (`model_a`, `left`, `tie` and so on), the name of the
/// column of a side, and the scores of both sides. Numbers are never guessed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Better {
    /// Values for the first completion, such as `[0]` or `[A, left]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) first: Vec<Word>,
    /// Values for the second completion.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) second: Vec<Word>,
    /// Values for equally good completions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tie: Vec<Word>,
    /// Values for two bad completions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) both_bad: Vec<Word>,
    /// The side that low numbers prefer, if the verdict is a strength such as -3 to 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) low: Option<Side>,
    /// Strength that prefers neither side. Default: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) middle: Option<f64>,
    /// One-hot columns: one is 1, the others are 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) one_hot: Option<OneHot>,
}

/// One of two compared completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The first.
    First,
    /// The second.
    Second,
}

/// Columns for each verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OneHot {
    /// Column that is 1 if the first is better.
    pub(crate) first: String,
    /// Column that is 1 if the second is better.
    pub(crate) second: String,
    /// Column that is 1 if neither is.
    pub(crate) tie: Option<String>,
}

/// Meaning of "both are bad".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BothBad {
    /// Neither is better: no pair and no labels.
    #[default]
    Tie,
    /// Both completions are undesirable.
    Undesirable,
}

/// Result of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    First,
    Second,
    Tie,
    BothBad,
    NoJudgement,
}

/// Result of a comparison, with its strength if it has one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) outcome: Outcome,
    /// Distance of the strength from the middle.
    pub(crate) margin: Option<f64>,
}

impl Outcome {
    /// Returns the reason why it gives no pair, if it gives none.
    pub(crate) fn no_pair(self) -> Option<&'static str> {
        match self {
            Self::First | Self::Second => None,
            Self::Tie => Some("tie"),
            Self::BothBad => Some("both_bad"),
            Self::NoJudgement => Some("no_judgement"),
        }
    }
}

impl From<Outcome> for Verdict {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, margin: None }
    }
}

impl Better {
    /// Returns true if nothing is given.
    pub(crate) fn is_empty(&self) -> bool {
        self == &Self::default()
    }

    /// Fails if settings exclude each other or a word has two meanings.
    pub(crate) fn check(&self) -> Result<(), DataError> {
        let fail = |message| {
            let value = serde_json::to_string(self).unwrap_or_default();
            Err(DataError::Value { key: "source.better".into(), value, message })
        };
        let lists = [&self.first, &self.second, &self.tie, &self.both_bad];
        let words: Vec<&Word> = lists.into_iter().flatten().collect();
        let ways = usize::from(!words.is_empty())
            + usize::from(self.low.is_some())
            + usize::from(self.one_hot.is_some());
        if ways > 1 {
            return fail("give words, or the side of low numbers (`low`), or `one_hot`, not two of them");
        }
        if !words.is_empty() && (self.first.is_empty() || self.second.is_empty()) {
            return fail("name the words for both sides, `first` and `second`");
        }
        if words.iter().enumerate().any(|(index, word)| words[..index].contains(word)) {
            return fail("a word is listed twice; give it one meaning");
        }
        if self.middle.is_some_and(|middle| !middle.is_finite())
            || self.middle.is_some() && self.low.is_none()
        {
            return fail("`middle` is a finite number and needs `low`, the side that lower numbers prefer");
        }
        Ok(())
    }

    /// Returns the names of the columns that only it reads.
    pub(crate) fn columns(&self) -> impl Iterator<Item = String> {
        let names = self.one_hot.iter().flat_map(|OneHot { first, second, tie }| {
            [Some(first), Some(second), tie.as_ref()].into_iter().flatten().cloned()
        });
        names.collect::<Vec<_>>().into_iter()
    }

    /// Returns the verdict of a record.
    pub(crate) fn read(&self, record: &Object, columns: &Columns) -> Result<Verdict, Flaw> {
        if let Some(one_hot) = &self.one_hot {
            return one_hot.read(record);
        }
        if let Some(found) = columns.find(record, RecordField::Better) {
            let names = [RecordField::First, RecordField::Second].map(|side| columns.mapping(side));
            return self.verdict(found.name, found.value, names);
        }
        let scores =
            [RecordField::ScoreFirst, RecordField::ScoreSecond].map(|side| columns.find(record, side));
        match scores {
            [Some(one), Some(other)] => {
                let (one, other) = (number(one)?, number(other)?);
                Ok(match one.partial_cmp(&other) {
                    Some(std::cmp::Ordering::Greater) => Outcome::First,
                    Some(std::cmp::Ordering::Less) => Outcome::Second,
                    _ => Outcome::Tie,
                }
                .into())
            }
            _ => Ok(Outcome::NoJudgement.into()),
        }
    }

    /// Returns the meaning of a value. `names` are the columns of the two sides.
    pub(crate) fn verdict(
        &self,
        name: &str,
        value: &Value,
        names: [Option<&str>; 2],
    ) -> Result<Verdict, Flaw> {
        let unknown = |advice: &str| Flaw {
            reason: RejectReason::UnknownWord,
            detail: format!("`{name}` is {}, {advice}", excerpt_value(value)),
        };
        if value.is_null() || value.as_str().is_some_and(numbers::is_null) {
            return Ok(Outcome::NoJudgement.into());
        }
        if let Some(low) = self.low {
            let strength = numbers::number(value).ok_or_else(|| unknown("expected a number"))?
                - self.middle.unwrap_or_default();
            let outcome = match (strength < 0.0, low) {
                _ if strength == 0.0 => Outcome::Tie,
                (true, Side::First) | (false, Side::Second) => Outcome::First,
                _ => Outcome::Second,
            };
            return Ok(Verdict { outcome, margin: (strength != 0.0).then_some(strength.abs()) });
        }
        let own = [
            (&self.first, Outcome::First),
            (&self.second, Outcome::Second),
            (&self.tie, Outcome::Tie),
            (&self.both_bad, Outcome::BothBad),
        ];
        if let Some((_, outcome)) = own.iter().find(|(words, _)| words.iter().any(|word| word.is(value))) {
            return Ok((*outcome).into());
        }
        let word = spelling(value).unwrap_or_default();
        if let [Some(first), Some(second)] = names
            && let Some(text) = value.as_str()
        {
            if text == first {
                return Ok(Outcome::First.into());
            }
            if text == second {
                return Ok(Outcome::Second.into());
            }
        }
        let given = !self.first.is_empty();
        match usual(&word) {
            Some(outcome) if !given || matches!(outcome, Outcome::Tie | Outcome::BothBad) => {
                Ok(outcome.into())
            }
            _ => Err(unknown(
                "which names neither side; give it a meaning in `better: {first: [...], second: [...], tie: [...]}` of \
                 the source, or with `low: first` or `low: second` if it is a strength",
            )),
        }
    }
}

/// Returns the score of the first of two completions by a verdict in common words, as in
/// [`Better`], or by the numbers 1 and 2: 1 if it is better, ½ for a tie or two bad ones, 0 if the
/// second is better. `names` are the names of both sides. None if the verdict is unknown.
///
/// ```
/// use prospect_data::first_score;
///
/// assert_eq!(first_score(&"Model B".into(), [None, None]), Some(0.0));
/// assert_eq!(first_score(&"kto".into(), [Some("kto"), Some("dpo")]), Some(1.0));
/// assert_eq!(first_score(&"perhaps".into(), [None, None]), None);
/// ```
pub fn first_score(verdict: &Value, names: [Option<&str>; 2]) -> Option<f64> {
    let text = verdict.as_str().map(str::trim);
    let outcome = match names.map(|name| name.is_some() && name == text) {
        [true, false] => Outcome::First,
        [false, true] => Outcome::Second,
        _ => match spelling(verdict)?.as_str() {
            "1" => Outcome::First,
            "2" => Outcome::Second,
            word => usual(word)?,
        },
    };
    match outcome {
        Outcome::First => Some(1.0),
        Outcome::Second => Some(0.0),
        Outcome::Tie | Outcome::BothBad => Some(0.5),
        Outcome::NoJudgement => None,
    }
}

/// Returns the meaning of common words.
fn usual(word: &str) -> Option<Outcome> {
    Some(match word {
        "a" | "modela" | "responsea" | "answera" | "left" | "leftvote" | "first" => Outcome::First,
        "b" | "modelb" | "responseb" | "answerb" | "right" | "rightvote" | "second" => Outcome::Second,
        "tie" | "tievote" | "draw" | "equal" | "same" | "both" => Outcome::Tie,
        "tie(bothbad)" | "bothbad" | "bothbadvote" | "neither" => Outcome::BothBad,
        _ => return None,
    })
}

impl OneHot {
    fn read(&self, record: &Object) -> Result<Verdict, Flaw> {
        let is_one = |name: &str| match record.0.get(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(truth)) => Ok(*truth),
            Some(value) => match numbers::number(value) {
                Some(1.0) => Ok(true),
                Some(0.0) => Ok(false),
                _ => Err(Flaw {
                    reason: RejectReason::BadValue,
                    detail: format!("`{name}` is {}, expected 0 or 1", excerpt_value(value)),
                }),
            },
        };
        let tie = self.tie.as_deref().map_or(Ok(false), is_one)?;
        match (is_one(&self.first)?, is_one(&self.second)?, tie) {
            (true, false, false) => Ok(Outcome::First.into()),
            (false, true, false) => Ok(Outcome::Second.into()),
            (false, false, true) => Ok(Outcome::Tie.into()),
            (false, false, false) => Ok(Outcome::NoJudgement.into()),
            _ => Err(Flaw {
                reason: RejectReason::BadValue,
                detail: format!("more than one of `{}`, `{}` and the tie is 1", self.first, self.second),
            }),
        }
    }
}
