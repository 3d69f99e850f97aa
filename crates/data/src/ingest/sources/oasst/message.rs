//! Lines of OpenAssistant's files: a message, or a tree of messages.

use std::collections::HashMap;

use serde::Deserialize;

use crate::ingest::{
    raw::{Flaw, RejectReason},
    sources::{excerpt::excerpt, json},
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
    Message(Box<OasstMessage>),
    /// Messages of a tree, parents before their replies.
    Tree(Vec<OasstMessage>),
}

/// Raw JSON: a message, or a tree with its root message under `prompt`.
#[derive(Debug, Deserialize)]
struct RawMessage {
    message_id: Option<String>,
    parent_id: Option<String>,
    text: Option<String>,
    role: Option<String>,
    lang: Option<String>,
    review_result: Option<bool>,
    deleted: Option<bool>,
    synthetic: Option<bool>,
    rank: Option<i64>,
    labels: Option<Ratings>,
    replies: Option<Vec<RawMessage>>,
    prompt: Option<Box<RawMessage>>,
}

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

    fn new(raw: RawMessage, parent: Option<String>) -> Result<Self, Flaw> {
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
            ratings: raw.labels,
        })
    }
}

/// Parses a line.
pub(super) fn parse(record: &[u8]) -> Result<OasstLine, Flaw> {
    let mut raw: RawMessage = json::parse(record)?;
    let Some(root) = raw.prompt.take() else {
        let parent = raw.parent_id.take();
        return Ok(OasstLine::Message(Box::new(OasstMessage::new(raw, parent)?)));
    };
    let mut messages = Vec::new();
    // The nesting, not `parent_id`, gives the parents.
    let mut next = vec![(*root, None)];
    while let Some((mut raw, parent)) = next.pop() {
        let replies = raw.replies.take().unwrap_or_default();
        let id = raw.message_id.clone();
        next.extend(replies.into_iter().rev().map(|reply| (reply, id.clone())));
        messages.push(OasstMessage::new(raw, parent)?);
    }
    Ok(OasstLine::Tree(messages))
}
