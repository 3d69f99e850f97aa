//! Lines of OpenAssistant's files: a message, or a tree of messages.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use crate::ingest::{
    raw::{Flaw, RejectReason},
    sources::{
        excerpt::excerpt,
        json::{self, wrong_type},
        numbers, python,
    },
};

/// Message with its reviews, rank and ratings.
#[derive(Debug, Clone)]
pub(super) struct OasstMessage {
    pub(super) id: String,
    pub(super) parent: Option<String>,
    /// Text, trimmed.
    pub(super) text: String,
    /// True for the assistant, false for the prompter.
    pub(super) assistant: bool,
    pub(super) lang: Option<String>,
    pub(super) review_result: Option<bool>,
    pub(super) deleted: bool,
    pub(super) synthetic: bool,
    /// Rank among its siblings; 0 is best.
    pub(super) rank: Option<i64>,
    ratings: Option<Ratings>,
}

/// Contents of a line.
pub(super) enum OasstLine {
    /// A message and the replies in it, parents before their replies.
    Messages(Vec<OasstMessage>),
    /// Messages of a tree, parents before their replies.
    Tree(Vec<OasstMessage>),
}

/// Raw JSON: a message, or a tree with its root message under `prompt`.
#[derive(Debug, Deserialize)]
struct RawMessage {
    #[serde(default, deserialize_with = "numbers::optional_id")]
    message_id: Option<String>,
    #[serde(default, deserialize_with = "numbers::optional_id")]
    parent_id: Option<String>,
    text: Option<String>,
    role: Option<String>,
    lang: Option<String>,
    #[serde(default, deserialize_with = "numbers::optional_bool")]
    review_result: Option<bool>,
    #[serde(default, deserialize_with = "numbers::optional_bool")]
    deleted: Option<bool>,
    #[serde(default, deserialize_with = "numbers::optional_bool")]
    synthetic: Option<bool>,
    #[serde(default, deserialize_with = "numbers::optional_whole")]
    rank: Option<i64>,
    labels: Option<Value>,
    replies: Option<Vec<RawMessage>>,
    prompt: Option<Box<RawMessage>>,
}

/// Columns of a [`RawMessage`].
pub(super) const COLUMNS: [&str; 12] = [
    "message_id",
    "parent_id",
    "text",
    "role",
    "lang",
    "review_result",
    "deleted",
    "synthetic",
    "rank",
    "labels",
    "replies",
    "prompt",
];

/// Mean ratings by name, from 0 to 1: parallel columns in flat files, a map in trees.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Ratings {
    Columns { name: Vec<String>, value: Vec<Option<f64>> },
    Map(HashMap<String, Rating>),
}

#[derive(Debug, Clone, Deserialize)]
struct Rating {
    value: Option<f64>,
}

impl OasstMessage {
    /// Returns the mean rating with this name.
    pub(super) fn rating(&self, wanted: &str) -> Option<f64> {
        match self.ratings.as_ref()? {
            Ratings::Columns { name, value } => {
                name.iter().zip(value).find(|(name, _)| *name == wanted).and_then(|(_, value)| *value)
            }
            Ratings::Map(ratings) => ratings.get(wanted)?.value,
        }
    }

    /// Makes a message, with its ratings if `rated`.
    fn new(raw: RawMessage, parent: Option<String>, rated: bool) -> Result<Self, Flaw> {
        let need = |field: Option<String>, name: &str| {
            field.ok_or_else(|| Flaw {
                reason: RejectReason::MissingField,
                detail: format!("a message has no `{name}`"),
            })
        };
        let role = need(raw.role, "role")?;
        let assistant = match role.as_str() {
            "assistant" => true,
            "prompter" => false,
            _ => {
                let detail = format!("role {}, expected prompter or assistant", excerpt(&role));
                return Err(Flaw { reason: RejectReason::UnknownRole, detail });
            }
        };
        Ok(Self {
            id: need(raw.message_id, "message_id")?,
            parent,
            text: need(raw.text, "text")?.trim().to_owned(),
            assistant,
            lang: raw.lang,
            review_result: raw.review_result,
            deleted: raw.deleted.unwrap_or_default(),
            synthetic: raw.synthetic.unwrap_or_default(),
            rank: raw.rank,
            ratings: raw.labels.filter(|_| rated).map(|labels| ratings(&labels)).transpose()?.flatten(),
        })
    }
}

/// Parses the column `labels`, which tables hold as text.
fn ratings(labels: &Value) -> Result<Option<Ratings>, Flaw> {
    let text = labels.as_str();
    if labels.is_null() || text.is_some_and(numbers::is_null) {
        return Ok(None);
    }
    let parsed = text.and_then(|text| json::value(text).or_else(|| python::parse(text)));
    let value = parsed.unwrap_or_else(|| labels.clone());
    serde_json::from_value(value).map(Some).map_err(|_| wrong_type("labels", labels, "ratings by name"))
}

/// Parses a line; ratings only if `rated`.
pub(super) fn parse(record: &[u8], rated: bool) -> Result<OasstLine, Flaw> {
    let mut raw: RawMessage = json::parse(record)?;
    if let Some(root) = raw.prompt.take() {
        return Ok(OasstLine::Tree(flatten(*root, None, rated)?));
    }
    let parent = raw.parent_id.take();
    flatten(raw, parent, rated).map(OasstLine::Messages)
}

/// Returns a message and the replies in it. Their nesting, not `parent_id`, gives their parents.
fn flatten(root: RawMessage, parent: Option<String>, rated: bool) -> Result<Vec<OasstMessage>, Flaw> {
    let mut messages = Vec::new();
    let mut next = vec![(root, parent)];
    while let Some((mut raw, parent)) = next.pop() {
        let replies = raw.replies.take().unwrap_or_default();
        let id = raw.message_id.clone();
        next.extend(replies.into_iter().rev().map(|reply| (reply, id.clone())));
        messages.push(OasstMessage::new(raw, parent, rated)?);
    }
    Ok(messages)
}
