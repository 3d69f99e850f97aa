//! Records with judgements by name: traces of observability tools (Langfuse, LangSmith, Phoenix,
//! Helicone, Weave) and records of annotation tools (Argilla, Label Studio).
//!
//! The recipe names the judgement to learn from; if people gave only one, it is that one. What a
//! model gave is never taken for the judgement of a person, and neither are drafts and suggestions.
//! A judgement is a thumb, a score (with `binarise`) or, if two completions are compared, a
//! verdict.

pub(crate) mod joined;
mod names;
mod policy;
mod texts;
mod tools;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use names::{NamedCounts, count_names, is_verdict, rows, two_sides};
use tools::JudgementRow;
pub(crate) use tools::tool;

use crate::ingest::{
    raw::{Flaw, Remark},
    sources::{
        columns::{Columns, RecordField},
        comparisons::{Better, BothBad, Outcome},
        embedded,
        json::{self, Object},
        pairs::sides,
        per_record::{Draft, Parsed, RecordFormat, SourceRecord},
        record_log::RecordLog,
        thumb_words::ThumbWords,
    },
};
use policy::Judged;

/// Policy for several judgements of one completion or comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Several {
    /// All must agree; others are left out as `conflicting`. Scores are averaged.
    #[default]
    Unanimous,
    /// The most frequent one; without one, left out as `conflicting`. Scores are averaged.
    Majority,
}

/// Settings of the source.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Judgements {
    pub(crate) columns: Columns,
    /// Names of the judgements.
    pub(crate) names: Vec<String>,
    pub(crate) several: Several,
    /// Takes the judgements of models too.
    pub(crate) machines: bool,
    pub(crate) better: Better,
    pub(crate) both_bad: BothBad,
    #[serde(skip_serializing_if = "ThumbWords::is_empty")]
    pub(crate) words: ThumbWords,
    /// Meaning of a judgement.
    pub(crate) meaning: Meaning,
}

/// Meaning of a judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Meaning {
    /// Thumb up or down.
    Thumb,
    /// Number that `binarise` turns into a label.
    Score,
    /// Verdict between two completions.
    Verdict,
}

/// A judgement of a record.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Judgement {
    pub(crate) name: String,
    /// Null if there is no answer.
    pub(crate) value: Value,
    /// Number for scores, if `value` is a word.
    pub(crate) number: Option<Value>,
    /// Reason for leaving it out if its value is no known word; None if that is a flaw.
    pub(crate) unknown: Option<&'static str>,
    /// True if a model or a program gave it.
    pub(crate) by_machine: bool,
    /// Reason why it is no answer, such as `draft`.
    pub(crate) unanswered: Option<&'static str>,
}

impl RecordFormat for Judgements {
    fn parse(&self, record: &SourceRecord<'_>) -> Parsed {
        let parsed = json::parse::<Object>(record.bytes);
        let object = match parsed {
            Ok(object) => object,
            Err(flaw) => return Parsed::rejected(vec![flaw]),
        };
        let judgements = tools::judgements(&object);
        match self.draft(object, &judgements) {
            Ok((drafts, remarks, log)) => Parsed { drafts: Ok(drafts), remarks, log },
            Err(flaws) => Parsed::rejected(flaws),
        }
    }
}

/// Name of judgements that answer every question, such as a skipped task.
const ANY: &str = "*";

/// Drafts of a record, with remarks.
type Drafts = (Vec<Draft>, Vec<Remark>, RecordLog);

impl Judgements {
    /// Returns the drafts of a record with these judgements: none if nobody judged it.
    fn draft(&self, record: Object, judgements: &[Judgement]) -> Result<Drafts, Vec<Flaw>> {
        let one = |flaw| vec![flaw];
        let mut remarks = Vec::new();
        let log = RecordLog::read(&self.columns, &record).map_err(one)?;
        if let Some(error) = tools::error(&record) {
            remarks.push(Remark::Filtered(error));
            return Ok((Vec::new(), remarks, log));
        }
        let judged = self.judge(judgements, &mut remarks).map_err(one)?;
        if matches!(judged, Judged::Nothing) {
            return Ok((Vec::new(), remarks, log));
        }
        let is_trace = tool(&record).is_some_and(tools::Tool::is_trace);
        let mut record = tools::flat(record);
        let repairs = embedded::restore(&mut record, &self.columns).map_err(one)?;
        remarks.extend(repairs);
        let draft = match judged {
            Judged::Nothing => return Ok((Vec::new(), remarks, log)),
            Judged::Verdict(outcome) => {
                if let Some(why) = outcome.no_pair()
                    && !(outcome == Outcome::BothBad && self.both_bad == BothBad::Undesirable)
                {
                    remarks.push(Remark::Filtered(why));
                    return Ok((Vec::new(), remarks, log));
                }
                self.compared(&record, outcome).map_err(one)?
            }
            Judged::Thumb(_) | Judged::Score(_) => {
                let (prompt, completion) =
                    texts::prompt_and_completion(&self.columns, &record, is_trace).map_err(one)?;
                let mut completion = match completion {
                    Ok(completion) => completion,
                    Err(why) => {
                        remarks.push(Remark::Filtered(why));
                        return Ok((Vec::new(), remarks, log));
                    }
                };
                match judged {
                    Judged::Score(score) => completion.score = Some(score),
                    Judged::Thumb(label) => completion.label = Some(label),
                    _ => {}
                }
                let domain = self.columns.domain(&record).map_err(one)?;
                Draft { domain, prompt, completions: vec![completion], pairs: Vec::new() }
            }
        };
        match draft.flaws() {
            flaws if flaws.is_empty() => {
                remarks.extend(draft.remarks());
                Ok((vec![draft], remarks, log))
            }
            flaws => Err(flaws),
        }
    }

    fn compared(&self, record: &Object, outcome: Outcome) -> Result<Draft, Flaw> {
        let Self { columns, .. } = self;
        let first = columns.need(record, RecordField::First)?;
        let second = columns.need(record, RecordField::Second)?;
        let (prompt, mut first, mut second) = sides(columns, record, first, second)?;
        let pairs = match outcome {
            Outcome::First => vec![(0, 1)],
            Outcome::Second => vec![(1, 0)],
            _ => {
                (first.label, second.label) = (Some(false), Some(false));
                Vec::new()
            }
        };
        Ok(Draft { domain: columns.domain(record)?, prompt, completions: vec![first, second], pairs })
    }
}
