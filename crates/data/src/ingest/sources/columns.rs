//! Fields of the user's own records. Each field is looked up under our name, under the names that
//! TRL and LLaMA-Factory use, or under the name that the recipe maps it to.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use strum::IntoEnumIterator;

use crate::{
    Message,
    ingest::{
        raw::{Flaw, RawCompletion, RejectReason},
        sources::{
            json::{Object, wrong_type},
            numbers,
            turns::turns,
        },
    },
};

/// Contents of a column or key.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::IntoStaticStr,
    strum::EnumIter,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum RecordField {
    /// Prompt: a conversation or a single question.
    Prompt,
    /// System message placed before the prompt.
    System,
    /// Whole conversation; its last turn is the completion.
    Conversation,
    /// Completion that was judged.
    Completion,
    /// Label: desirable or undesirable.
    Label,
    /// Score of the completion; higher is better.
    Score,
    /// Preferred completion.
    Chosen,
    /// Rejected completion.
    Rejected,
    /// Score of the preferred completion.
    ScoreChosen,
    /// Score of the rejected completion.
    ScoreRejected,
    /// Several completions of one prompt.
    Completions,
    /// Scores of the completions, if they are in a separate list.
    Scores,
    /// Value of the `domain` column.
    Domain,
    /// User or conversation that the judgement comes from. Only a salted hash is stored.
    Group,
    /// Time of the judgement: ISO 8601, or seconds or milliseconds since 1970.
    Time,
}

impl RecordField {
    /// Column names tried when the recipe maps none.
    fn usual(self) -> &'static [&'static str] {
        match self {
            Self::Prompt => &["prompt", "instruction", "question"],
            Self::System => &["system"],
            Self::Conversation => &["messages", "conversations", "conversation"],
            Self::Completion => &["completion", "output", "response"],
            Self::Label => &["label", "kto_tag"],
            Self::Score => &["score", "rating", "reward", "overall_score"],
            Self::Chosen => &["chosen"],
            Self::Rejected => &["rejected"],
            Self::ScoreChosen => &["score_chosen", "metadata.score_chosen"],
            Self::ScoreRejected => &["score_rejected", "metadata.score_rejected"],
            Self::Completions => &["completions", "responses"],
            Self::Scores => &["scores", "ratings"],
            Self::Domain => &["domain"],
            // What a log calls these differs, so the recipe names them.
            Self::Group | Self::Time => &[],
        }
    }
}

/// Mapping from fields to column or key names (`source.columns`), for columns that are not named as
/// expected. A dot descends into an object: `score_chosen: metadata.score_chosen`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Columns(BTreeMap<RecordField, String>);

/// Value of a field, and the column name it was found under.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FoundValue<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: &'a Value,
}

impl Columns {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the names of all columns that may be read.
    pub(crate) fn names(&self) -> Vec<String> {
        let own = self.0.values().cloned();
        let usual = RecordField::iter().flat_map(RecordField::usual).chain(&FACTORY).copied();
        own.chain(usual.map(str::to_owned)).collect()
    }

    /// Returns the value of a column that belongs to LLaMA-Factory's prompts, unless the recipe
    /// maps the column to a field.
    pub(crate) fn unmapped<'a>(&self, record: &'a Object, name: &str) -> Option<&'a Value> {
        record.0.get(name).filter(|_| !self.0.values().any(|column| column == name))
    }

    /// Returns the name that the recipe maps a field to, if it does.
    pub(crate) fn mapping(&self, field: RecordField) -> Option<&str> {
        self.0.get(&field).map(String::as_str)
    }

    /// Returns whether a field is there but null, or is below a null.
    pub(crate) fn is_null(&self, record: &Object, field: RecordField) -> bool {
        match self.0.get(&field) {
            Some(name) => null_at(&record.0, name),
            None => field.usual().iter().any(|name| null_at(&record.0, name)),
        }
    }

    /// Returns the value of a field; null counts as absent.
    pub(crate) fn find<'a>(&'a self, record: &'a Object, field: RecordField) -> Option<FoundValue<'a>> {
        let at = |name: &'a str| {
            let value = at(&record.0, name).filter(|value| !value.is_null())?;
            Some(FoundValue { name, value })
        };
        match self.0.get(&field) {
            Some(name) => at(name),
            None => field.usual().iter().find_map(|name| at(name)),
        }
    }

    /// Returns the value of a required field.
    pub(crate) fn need<'a>(&'a self, record: &'a Object, field: RecordField) -> Result<FoundValue<'a>, Flaw> {
        self.find(record, field).ok_or_else(|| Flaw {
            reason: RejectReason::MissingField,
            detail: format!("no `{}`", self.0.get(&field).map_or(field.into(), String::as_str)),
        })
    }

    /// Returns the prompt, or None if the record has none.
    ///
    /// The prompt is `prompt` (text or turns) or a conversation without its completion. `system`
    /// and LLaMA-Factory's `history` come before it, `input` after it.
    pub(crate) fn prompt(&self, record: &Object) -> Result<Option<Vec<Message>>, Flaw> {
        let found =
            self.find(record, RecordField::Prompt).or_else(|| self.find(record, RecordField::Conversation));
        let Some(found) = found else { return Ok(None) };
        let mut prompt = Vec::new();
        if let Some(system) = self.find(record, RecordField::System) {
            let text = text(system)?.trim();
            if !text.is_empty() {
                prompt.push(Message { role: "system".to_owned(), content: text.to_owned() });
            }
        }
        for turn in self.unmapped(record, "history").and_then(Value::as_array).into_iter().flatten() {
            for (value, role) in turn.as_array().into_iter().flatten().zip(["user", "assistant"]) {
                prompt.extend(turns("history", value, role)?);
            }
        }
        prompt.extend(turns(found.name, found.value, "user")?);
        if let (Value::String(_), Some(Value::String(input)), Some(last)) =
            (found.value, self.unmapped(record, "input"), prompt.last_mut())
            && !input.trim().is_empty()
        {
            last.content = format!("{}\n{}", last.content, input.trim());
        }
        Ok(Some(prompt))
    }

    /// Returns the record's domain, if it has one.
    pub(crate) fn domain(&self, record: &Object) -> Result<Option<String>, Flaw> {
        self.find(record, RecordField::Domain).map(|domain| Ok(text(domain)?.to_owned())).transpose()
    }

    /// Returns a score, or None if it is absent.
    pub(crate) fn score(&self, record: &Object, field: RecordField) -> Result<Option<f64>, Flaw> {
        self.find(record, field).map_or(Ok(None), score)
    }
}

/// Columns of LLaMA-Factory that belong to a prompt.
const FACTORY: [&str; 2] = ["history", "input"];

fn at<'a>(map: &'a serde_json::Map<String, Value>, name: &str) -> Option<&'a Value> {
    map.get(name).or_else(|| {
        let (first, rest) = name.split_once('.')?;
        at(map.get(first)?.as_object()?, rest)
    })
}

fn null_at(map: &serde_json::Map<String, Value>, name: &str) -> bool {
    match (map.get(name), name.split_once('.')) {
        (Some(value), _) => value.is_null(),
        (None, Some((first, rest))) => match map.get(first) {
            Some(Value::Object(inner)) => null_at(inner, rest),
            value => value.is_some_and(Value::is_null),
        },
        (None, None) => false,
    }
}

/// Returns the value at a column name or path, to change it.
pub(crate) fn value_mut<'a>(
    map: &'a mut serde_json::Map<String, Value>,
    name: &str,
) -> Option<&'a mut Value> {
    if map.contains_key(name) {
        return map.get_mut(name);
    }
    let (first, rest) = name.split_once('.')?;
    value_mut(map.get_mut(first)?.as_object_mut()?, rest)
}

/// Returns a text value.
pub(crate) fn text(found: FoundValue<'_>) -> Result<&str, Flaw> {
    found.value.as_str().ok_or_else(|| wrong_type(found.name, found.value, "text"))
}

/// Parses a number, or text that holds one. Null, and text that stands for it, is no score.
pub(crate) fn score(found: FoundValue<'_>) -> Result<Option<f64>, Flaw> {
    let number = match found.value {
        Value::Null => return Ok(None),
        Value::String(text) if numbers::is_null(text) => return Ok(None),
        value => numbers::number(value),
    };
    number.map(Some).ok_or_else(|| wrong_type(found.name, found.value, "a finite number"))
}

/// Parses a completion; its score and label stay empty. If its turns repeat the prompt, as in full
/// chat transcripts, the prompt's turns are removed.
pub(crate) fn completion(found: FoundValue<'_>, prompt: &[Message]) -> Result<RawCompletion, Flaw> {
    let mut messages = turns(found.name, found.value, "assistant")?;
    if messages.len() > prompt.len() && messages.starts_with(prompt) {
        messages.drain(..prompt.len());
    }
    match messages.as_slice() {
        [only] if only.role == "assistant" => Ok(RawCompletion { messages, score: None, label: None }),
        _ => Err(Flaw {
            reason: RejectReason::NoAssistantTurn,
            detail: format!("`{}` must be one assistant turn, optionally preceded by the prompt", found.name),
        }),
    }
}

/// Splits a conversation before its last turn, which must be the assistant's.
pub(crate) fn split_last(name: &str, mut turns: Vec<Message>) -> Result<(Vec<Message>, Message), Flaw> {
    match turns.pop() {
        Some(last) if last.role == "assistant" => Ok((turns, last)),
        _ => Err(Flaw {
            reason: RejectReason::HumanTurnLast,
            detail: format!("`{name}` does not end with an assistant turn"),
        }),
    }
}
