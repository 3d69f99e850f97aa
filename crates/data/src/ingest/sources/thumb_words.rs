//! Words for thumbs: the labels of feedback tools, and the recipe's own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    DataError,
    ingest::{
        raw::{Flaw, RejectReason, Remark},
        sources::{columns::FoundValue, excerpt::excerpt_value, json::wrong_type, numbers},
    },
};

/// The recipe's own words for labels. They take precedence over the built-in ones. Case, white
/// space, hyphens and underscores do not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ThumbWords {
    /// Words that mean desirable, such as `[helpful, 4, 5]`.
    desirable: Vec<Word>,
    /// Words that mean undesirable.
    undesirable: Vec<Word>,
    /// Words that mean that nobody judged, such as `[skipped, 0]`. Their rows are filtered.
    no_judgement: Vec<Word>,
}

/// A word of the data: text, a number or a boolean. Kept in the form in which words are compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "WrittenWord")]
#[schemars(with = "WrittenWord")]
pub(crate) struct Word(String);

impl Word {
    /// Returns true if a value of the data is this word. Null, lists and objects are no words.
    pub(crate) fn is(&self, value: &Value) -> bool {
        spelling(value).is_some_and(|word| word == self.0)
    }

    /// Returns the word for a number.
    pub(crate) fn from_number(number: f64) -> Self {
        Self(comparable(&number.to_string()))
    }
}

/// Returns a word, number or boolean in the form in which words are compared.
pub(crate) fn spelling(value: &Value) -> Option<String> {
    match value {
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) => Some(comparable(&number.to_string())),
        Value::String(text) => Some(comparable(text)),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A word as written: text, a number or a boolean.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum WrittenWord {
    Boolean(bool),
    Number(f64),
    Text(String),
}

impl From<WrittenWord> for Word {
    fn from(word: WrittenWord) -> Self {
        Self(match word {
            WrittenWord::Boolean(value) => value.to_string(),
            WrittenWord::Number(value) => comparable(&value.to_string()),
            WrittenWord::Text(text) => comparable(&text),
        })
    }
}

/// Meaning of a label.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Thumb {
    /// True for desirable; None if nobody judged.
    pub(crate) label: Option<bool>,
    /// Note on labels whose meaning depends on the others of the input.
    pub(crate) remark: Option<Remark>,
}

/// Name of the note on labels of 0, which are undesirable.
pub(crate) const LABEL_ZERO: &str = "label_zero";

/// Name of the note on labels of -1.
pub(crate) const LABEL_MINUS_ONE: &str = "label_minus_one";

impl ThumbWords {
    pub(crate) fn is_empty(&self) -> bool {
        self == &Self::default()
    }

    /// Fails if a word has two meanings.
    pub(crate) fn check(&self) -> Result<(), DataError> {
        let lists = [&self.desirable, &self.undesirable, &self.no_judgement];
        let mut words: Vec<&str> = lists.into_iter().flatten().map(|word| word.0.as_str()).collect();
        words.sort_unstable();
        match words.windows(2).find(|two| two[0] == two[1]) {
            Some(two) => {
                let message = "it is listed twice; give a word one meaning (case, white space, hyphens and \
                               underscores do not matter)";
                Err(DataError::Value { key: "source.words".into(), value: format!("`{}`", two[0]), message })
            }
            None => Ok(()),
        }
    }

    /// Returns the meaning of a label: a word, a number, true or false.
    pub(crate) fn read(&self, found: FoundValue<'_>) -> Result<Thumb, Flaw> {
        if found.value.is_null() {
            return Ok(Thumb::default());
        }
        let word = spelling(found.value)
            .ok_or_else(|| wrong_type(found.name, found.value, "a word, a number, true or false"))?;
        let own =
            [(&self.desirable, Some(true)), (&self.undesirable, Some(false)), (&self.no_judgement, None)];
        if let Some((_, label)) = own.into_iter().find(|(list, _)| list.iter().any(|own| own.0 == word)) {
            return Ok(Thumb { label, remark: None });
        }
        usual(&word).ok_or_else(|| Flaw {
            reason: RejectReason::UnknownWord,
            detail: format!(
                "`{}` is {}, which is not known as a label; add it to `words: {{desirable: [...], undesirable: [...], \
                 no_judgement: [...]}}` of the source",
                found.name,
                excerpt_value(found.value)
            ),
        })
    }
}

/// Returns a judgement of one completion as a score: a finite number as it is, and 1 or 0 for true,
/// false and the usual words for thumbs. None for anything else.
///
/// ```
/// use prospect_data::judgement_score;
///
/// assert_eq!(judgement_score(&"4".into()), Some(4.0));
/// assert_eq!(judgement_score(&"thumbs up".into()), Some(1.0));
/// assert_eq!(judgement_score(&"skipped".into()), None);
/// ```
pub fn judgement_score(value: &Value) -> Option<f64> {
    numbers::number(value).or_else(|| {
        let label = usual(&spelling(value)?)?.label?;
        Some(f64::from(u8::from(label)))
    })
}

/// Returns the meaning of the words that need no recipe.
fn usual(word: &str) -> Option<Thumb> {
    let (label, note) = match word {
        "true" | "yes" | "1" | "up" | "upvote" | "upvoted" | "thumbup" | "thumbsup" | "like" | "liked"
        | "positive" | "good" | "desirable" | "chosen" | "👍" => (Some(true), None),
        "false" | "no" | "down" | "downvote" | "downvoted" | "thumbdown" | "thumbsdown" | "dislike"
        | "disliked" | "negative" | "bad" | "undesirable" | "rejected" | "👎" => (Some(false), None),
        "0" => (Some(false), Some(LABEL_ZERO)),
        "-1" => (Some(false), Some(LABEL_MINUS_ONE)),
        "" | "null" | "none" | "nan" => (None, None),
        _ => return None,
    };
    Some(Thumb { label, remark: note.map(Remark::Noted) })
}

/// Returns the form in which words are compared: lower case, without white space, hyphens,
/// underscores, the colons of `:thumbsup:`, skin tones and variation selectors. Numbers have one
/// spelling.
fn comparable(text: &str) -> String {
    let word = text.trim().trim_matches(':');
    if let Some(number) = word.parse::<f64>().ok().filter(|number| number.is_finite()) {
        // Without the sign of -0.
        return (number + 0.0).to_string();
    }
    let ignored = |letter: char| {
        letter.is_whitespace() || matches!(letter, '-' | '_' | '\u{1f3fb}'..='\u{1f3ff}' | '\u{fe0f}')
    };
    word.chars().filter(|letter| !ignored(*letter)).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn words(yaml: &str) -> ThumbWords {
        prospect_core::config::Document::from_text("words", yaml).unwrap().read().unwrap()
    }

    fn label(words: &ThumbWords, value: &Value) -> Result<Option<bool>, RejectReason> {
        let found = FoundValue { name: "thumb", value };
        words.read(found).map(|thumb| thumb.label).map_err(|flaw| flaw.reason)
    }

    #[test]
    fn the_words_of_feedback_tools_are_known() {
        let up = "1 1.0 +1 :+1: true TRUE yes up thumbs_up thumbsUp thumbs-up :thumbsup: 👍 👍🏽 👍️ like Liked upvote \
                  positive good chosen desirable";
        let down = "0 -1 -1.0 :-1: false No down thumbs_down thumbsDown Thumbs-Down 👎 👎🏿 dislike disliked downvote \
                    negative bad rejected undesirable";
        for (list, expected) in [(up, true), (down, false)] {
            for word in list.split(' ') {
                assert_eq!(label(&ThumbWords::default(), &json!(word)), Ok(Some(expected)), "{word}");
            }
        }
        for (value, expected) in [
            (json!(true), true),
            (json!(1), true),
            (json!(-1.0), false),
            (json!(0), false),
            (json!("Thumbs up"), true),
        ] {
            assert_eq!(label(&ThumbWords::default(), &value), Ok(Some(expected)), "{value}");
        }
    }

    #[test]
    fn nothing_is_no_judgement_and_other_words_are_never_guessed() {
        for value in [json!(null), json!(""), json!("  "), json!("null"), json!("None"), json!("NaN")] {
            assert_eq!(label(&ThumbWords::default(), &value), Ok(None), "{value}");
        }
        for value in [json!("maybe"), json!(2), json!("0.5"), json!("not good"), json!("👍👎"), json!("inf")]
        {
            assert_eq!(label(&ThumbWords::default(), &value), Err(RejectReason::UnknownWord), "{value}");
        }
        for value in [json!(["up"]), json!({"rating": 1})] {
            assert_eq!(label(&ThumbWords::default(), &value), Err(RejectReason::WrongType), "{value}");
        }
        let flaw =
            ThumbWords::default().read(FoundValue { name: "thumb", value: &json!("meh") }).unwrap_err();
        assert!(
            flaw.detail.starts_with("`thumb` is \"meh\",") && flaw.detail.contains("`words:"),
            "{flaw:?}"
        );
    }

    #[test]
    fn the_words_of_the_recipe_come_first() {
        let words =
            words("{desirable: [Very-Helpful, 5, 4.0], undesirable: [1, true, 😡], no_judgement: [0, skip]}");
        for (value, expected) in [
            (json!("very helpful"), Some(true)),
            (json!(5.0), Some(true)),
            (json!("4"), Some(true)),
            (json!(1), Some(false)),
            (json!(true), Some(false)),
            (json!("😡"), Some(false)),
            (json!("0"), None),
            (json!("Skip"), None),
            (json!("up"), Some(true)),
        ] {
            assert_eq!(label(&words, &value), Ok(expected), "{value}");
        }
    }

    #[test]
    fn a_word_has_one_meaning() {
        assert!(words("{desirable: [a, b], undesirable: [c]}").check().is_ok());
        let error = words("{desirable: [a-b], undesirable: [A_B]}").check().unwrap_err().to_string();
        assert!(error.starts_with("`source.words` is `ab`: it is listed twice"), "{error}");
    }
}
