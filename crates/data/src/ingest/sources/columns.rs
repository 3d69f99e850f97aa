//! Fields of the user's own records. Each field is looked up under our name, under the names that
//! TRL and LLaMA-Factory use, or under the name that the recipe maps it to.

use std::collections::BTreeMap;

use prospect_core::config::did_you_mean;
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
    /// Split of the record: train, or one of test, validation, valid, val, dev and eval.
    Split,
    /// First of two compared completions: text, turns, or a conversation with the prompt.
    First,
    /// Second of two compared completions.
    Second,
    /// The better of the two; `source.better` gives its values a meaning.
    Better,
    /// Score of the first completion.
    ScoreFirst,
    /// Score of the second completion.
    ScoreSecond,
    /// Label of the first completion on its own.
    LabelFirst,
    /// Label of the second completion on its own.
    LabelSecond,
}

impl RecordField {
    /// Column names tried when the recipe maps none.
    fn usual(self) -> &'static [&'static str] {
        match self {
            Self::Prompt => &["prompt", "instruction", "question", "user_query", "input.messages"],
            Self::System => &["system"],
            Self::Conversation => &["messages", "conversations", "conversation"],
            Self::Completion => &["completion", "output", "response", "ai_response"],
            Self::Label => &["label", "kto_tag", "feedback_rating"],
            Self::Score => &["score", "rating", "reward", "overall_score"],
            Self::Chosen => &["chosen", "preferred_output", "response_j", "chosen_response"],
            Self::Rejected => {
                &["rejected", "non_preferred_output", "response_k", "rejected_response", "rejected_messages"]
            }
            Self::ScoreChosen => &[
                "score_chosen",
                "chosen_score",
                "chosen_rating",
                "rating_chosen",
                "chosen-rating",
                "metadata.score_chosen",
            ],
            Self::ScoreRejected => &[
                "score_rejected",
                "rejected_score",
                "rejected_rating",
                "rating_rejected",
                "rejected-rating",
                "metadata.score_rejected",
            ],
            Self::Completions => &["completions", "responses", "answers"],
            Self::Scores => &["scores", "ratings"],
            Self::Domain => &["domain"],
            // Their names differ, so the recipe gives them, or the layout of a known set.
            Self::Group
            | Self::Time
            | Self::Split
            | Self::First
            | Self::Second
            | Self::Better
            | Self::ScoreFirst
            | Self::ScoreSecond
            | Self::LabelFirst
            | Self::LabelSecond => &[],
        }
    }
}

/// Mapping from fields to column or key names (`source.columns`), for columns that are not named as
/// expected. A dot descends into an object and brackets into a list, from the end if negative:
/// `score_chosen: metadata.score_chosen`, `completion: choices[0].message`, `prompt: turns[-2]`.
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
        let usual = RecordField::iter().flat_map(RecordField::usual).chain(&OTHERS).copied();
        own.chain(usual.map(str::to_owned)).collect()
    }

    /// Returns the value of a column that belongs to LLaMA-Factory's prompts, unless the recipe
    /// maps the column to a field.
    pub(crate) fn unmapped<'a>(&self, record: &'a Object, name: &str) -> Option<&'a Value> {
        record.0.get(name).filter(|_| !self.0.values().any(|column| column == name))
    }

    /// Maps fields that the recipe does not map.
    pub(crate) fn or<'a>(mut self, defaults: impl IntoIterator<Item = (RecordField, &'a str)>) -> Self {
        for (field, name) in defaults {
            self.0.entry(field).or_insert_with(|| name.to_owned());
        }
        self
    }

    /// Returns the first mapped field that is not among `known`.
    pub(crate) fn other_than(&self, known: &[RecordField]) -> Option<RecordField> {
        self.0.keys().copied().find(|field| !known.contains(field))
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
        self.find(record, field).ok_or_else(|| {
            let name = self.0.get(&field).map_or(field.into(), String::as_str);
            // A key of this name holds null.
            let others = record.0.keys().map(String::as_str).filter(|key| *key != name);
            let detail = format!("no `{name}`{}", did_you_mean(name, others));
            Flaw { reason: RejectReason::MissingField, detail }
        })
    }

    /// Returns the prompt, or None if the record has none.
    ///
    /// The prompt is `prompt` (text or turns) or a conversation without its completion. `system`
    /// and `history` come before it, LLaMA-Factory's `input` after it.
    pub(crate) fn prompt(&self, record: &Object) -> Result<Option<Vec<Message>>, Flaw> {
        let input = || {
            let value = self.unmapped(record, INPUT).filter(|value| value.is_string())?;
            Some(FoundValue { name: INPUT, value })
        };
        let found = self.find(record, RecordField::Prompt);
        let found = found.or_else(|| self.find(record, RecordField::Conversation)).or_else(input);
        let Some(found) = found else { return Ok(None) };
        let mut prompt = Vec::new();
        if let Some(system) = self.find(record, RecordField::System) {
            let text = text(system)?.trim();
            if !text.is_empty() {
                prompt.push(Message { role: "system".to_owned(), content: text.to_owned() });
            }
        }
        for turn in self.unmapped(record, HISTORY).and_then(Value::as_array).into_iter().flatten() {
            match turn {
                Value::Array(texts) => {
                    for (value, role) in texts.iter().zip(["user", "assistant"]) {
                        prompt.extend(turns(HISTORY, value, role)?);
                    }
                }
                Value::Object(_) => prompt.extend(turns(HISTORY, turn, "user")?),
                _ => {}
            }
        }
        prompt.extend(turns(found.name, found.value, "user")?);
        if let (Value::String(_), Some(Value::String(input)), Some(last)) =
            (found.value, self.unmapped(record, INPUT), prompt.last_mut())
            && found.name != INPUT
            && !input.trim().is_empty()
        {
            last.content = format!("{}\n{}", last.content, input.trim());
        }
        Ok(Some(prompt))
    }

    /// Returns the record's domain, if it has one. Of an object of flags, it is the names of those
    /// that are true, joined by `+`.
    pub(crate) fn domain(&self, record: &Object) -> Result<Option<String>, Flaw> {
        let Some(found) = self.find(record, RecordField::Domain) else { return Ok(None) };
        let Value::Object(flags) = found.value else { return Ok(Some(text(found)?.to_owned())) };
        let is_flag = |value: &Value| value.is_boolean() || value.is_null();
        if !flags.values().all(is_flag) {
            return Err(wrong_type(found.name, found.value, "text, or an object of flags"));
        }
        let set = flags.iter().filter(|(_, flag)| **flag == true).map(|(name, _)| name.as_str());
        let mut set: Vec<&str> = set.collect();
        set.sort_unstable();
        Ok((!set.is_empty()).then(|| set.join(FLAGS)))
    }

    /// Returns a score, or None if it is absent.
    pub(crate) fn score(&self, record: &Object, field: RecordField) -> Result<Option<f64>, Flaw> {
        self.find(record, field).map_or(Ok(None), score)
    }
}

/// Separator of several domains of one record.
pub(crate) const FLAGS: &str = "+";

/// Columns that are read besides the fields: LLaMA-Factory's, and distilabel's note on ties.
const OTHERS: [&str; 3] = [HISTORY, INPUT, "status"];

/// Column of earlier turns: LLaMA-Factory's pairs of a question and its answer, or turns.
const HISTORY: &str = "history";

/// Column of LLaMA-Factory that follows the instruction. Without an instruction, it is the prompt.
const INPUT: &str = "input";

/// Step of a path: what comes before the next dot or bracket, and the rest.
fn first_step(name: &str) -> Option<(&str, &str)> {
    let end = name.find(['.', '['])?;
    Some(name.split_at(end))
}

/// Splits an index in brackets from the path behind it, and finds it in a list of this length.
fn list_index(rest: &str, length: usize) -> Option<(usize, &str)> {
    let (index, rest) = rest.strip_prefix('[')?.split_once(']')?;
    let index: i64 = index.trim().parse().ok()?;
    let index = if index < 0 { length.checked_sub(usize::try_from(-index).ok()?)? } else { index as usize };
    Some((index, rest))
}

fn at<'a>(map: &'a serde_json::Map<String, Value>, name: &str) -> Option<&'a Value> {
    map.get(name).or_else(|| {
        let (first, rest) = first_step(name)?;
        below(map.get(first)?, rest)
    })
}

fn below<'a>(value: &'a Value, rest: &str) -> Option<&'a Value> {
    match value {
        value if rest.is_empty() => Some(value),
        Value::Object(map) => at(map, rest.strip_prefix('.')?),
        Value::Array(list) => {
            let (index, rest) = list_index(rest, list.len())?;
            below(list.get(index)?, rest)
        }
        _ => None,
    }
}

fn null_at(map: &serde_json::Map<String, Value>, name: &str) -> bool {
    match (map.get(name), first_step(name)) {
        (Some(value), _) => value.is_null(),
        (None, Some((first, rest))) => map.get(first).is_some_and(|value| null_below(value, rest)),
        (None, None) => false,
    }
}

fn null_below(value: &Value, rest: &str) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => rest.strip_prefix('.').is_some_and(|rest| null_at(map, rest)),
        Value::Array(list) => list_index(rest, list.len())
            .and_then(|(index, rest)| Some(null_below(list.get(index)?, rest)))
            .unwrap_or_default(),
        _ => false,
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
    let (first, rest) = first_step(name)?;
    below_mut(map.get_mut(first)?, rest)
}

fn below_mut<'a>(value: &'a mut Value, rest: &str) -> Option<&'a mut Value> {
    match value {
        value if rest.is_empty() => Some(value),
        Value::Object(map) => value_mut(map, rest.strip_prefix('.')?),
        Value::Array(list) => {
            let (index, rest) = list_index(rest, list.len())?;
            below_mut(list.get_mut(index)?, rest)
        }
        _ => None,
    }
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

/// Returns a completion that is a whole conversation, split before its last turn, if the prompt is
/// only one of its user turns. Such a prompt would leave out the others.
pub(crate) fn whole_conversation(
    found: FoundValue<'_>,
    prompt: &[Message],
) -> Option<(Vec<Message>, RawCompletion)> {
    let ([Message { role, content }], Value::Array(list)) = (prompt, found.value) else { return None };
    // Prompt and completion alone need no such care.
    if list.len() <= 2 {
        return None;
    }
    let conversation = turns(found.name, found.value, "assistant").ok()?;
    let (before, last) = split_last(found.name, conversation).ok()?;
    let holds = before.iter().any(|turn| turn.role == *role && turn.content == *content);
    holds.then(|| (before, RawCompletion { messages: vec![last], score: None, label: None }))
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
