//! FastGPT: a dump of its collection `chatitems`, one message a record, or the list of messages
//! that its interface returns for one chat. A thumb is a text; its presence counts, not its words.
//!
//! Messages have no parents. Their times order them, or without times the records do.

use serde_json::Value;

use super::{
    ChatRecord,
    message::{ChatMessage, ChatRole, ChatText, ERROR, IMAGE_PART, Rating, TOOL_TURN},
};
use crate::{
    ingest::{
        raw::{Flaw, RejectReason},
        sources::json::Object,
    },
    table::timestamp::Timestamp,
};

/// Fields that hold a thumb, with its meaning.
const THUMBS: [(&str, bool); 2] = [("userGoodFeedback", true), ("userBadFeedback", false)];

/// Returns true for a message.
pub(super) fn is_message(record: &Object) -> bool {
    let is_role = |role: &str| matches!(role, "Human" | "AI" | "System");
    record.0.get("obj").and_then(Value::as_str).is_some_and(is_role) && record.0.contains_key("value")
}

/// Reads a message.
pub(super) fn message(record: &Object) -> Result<ChatRecord, Flaw> {
    let field = |key: &str| record.0.get(key).filter(|value| !value.is_null());
    let id = ["dataId", "_id", "id"].iter().find_map(|key| field(key)).map(id);
    let id = id.ok_or_else(|| Flaw {
        reason: RejectReason::MissingField,
        detail: "a message has neither `dataId` nor `_id`".to_owned(),
    })?;
    let role = match field("obj").and_then(Value::as_str) {
        Some("Human") => ChatRole::User,
        Some("AI") => ChatRole::Assistant,
        _ => ChatRole::System,
    };
    let mut text = content(field("value").unwrap_or(&Value::Null));
    if field("errorMsg").and_then(Value::as_str).is_some_and(|error| !error.is_empty()) {
        text.unusable = Some(ERROR);
    }
    let given = |key: &str| field(key).is_some_and(|value| value != "" && value != false);
    let ratings = THUMBS.iter().filter(|(key, _)| given(key));
    let ratings = ratings.map(|(_, up)| Rating { message: id.clone(), value: Value::Bool(*up) });
    Ok(ChatRecord::Next {
        chat: field("chatId").map(self::id).unwrap_or_default(),
        time: field("time").and_then(time),
        ratings: ratings.collect(),
        message: Box::new(ChatMessage { id, parent: None, role, text }),
    })
}

/// Returns an id, which a dump may write as an object.
fn id(value: &Value) -> String {
    match value.get("$oid").unwrap_or(value) {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Returns a time, which a dump may write as an object.
fn time(value: &Value) -> Option<Timestamp> {
    match value.get("$date").unwrap_or(value) {
        Value::String(text) => Timestamp::from_text(text),
        Value::Number(number) => Timestamp::from_number(number.as_f64()?),
        other => Timestamp::from_number(other.get("$numberLong")?.as_str()?.parse().ok()?),
    }
}

/// Reads a text, or parts that are a text, reasoning, a file, or the call of a tool.
fn content(value: &Value) -> ChatText {
    let Some(parts) = value.as_array() else { return ChatText::read(value) };
    let mut texts = Vec::new();
    let (mut unusable, mut had_reasoning) = (None, false);
    for part in parts {
        let has = |key: &str| part.get(key).is_some_and(|value| !value.is_null());
        if has("reasoning") {
            had_reasoning = true;
        }
        match part.pointer("/text/content") {
            Some(text) => texts.push(text.clone()),
            None if has("file") => unusable = Some(IMAGE_PART),
            None if has("reasoning") => {}
            None => unusable = Some(TOOL_TURN),
        }
    }
    ChatText { unusable, had_reasoning, ..ChatText::read(&Value::Array(texts)) }
}
