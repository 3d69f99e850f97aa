//! Open WebUI: the export of all feedback, with a snapshot of the conversation in each record, and
//! the export of chats, with a thumb on each rated message.
//!
//! Both hold the tree of messages in `history`; `messages` is the current branch only.

use serde_json::{Map, Value};

use super::message::{Chat, ChatMessage, ChatRole, ChatText, IMAGE_PART, Rating, TOOL_TURN};
use crate::ingest::{
    raw::{Flaw, RejectReason},
    sources::json::{Object, wrong_type},
};

/// Returns true for a record of the feedback export.
pub(super) fn is_feedback(record: &Object) -> bool {
    let has = |key: &str| record.0.contains_key(key);
    has("snapshot") && has("meta") && has("data")
        || has("data") && has("meta") && record.0.get("type").is_some_and(|kind| kind == "rating")
}

/// Returns true for a record of the chat export.
pub(super) fn is_chat(record: &Object) -> bool {
    record.0.get("chat").is_some_and(|chat| chat.pointer("/history/messages").is_some())
}

/// Reads a record of the feedback export: the rating of one message.
pub(super) fn feedback(record: &Object) -> Result<Chat, Flaw> {
    let missing = |detail: &str| Flaw { reason: RejectReason::MissingField, detail: detail.to_owned() };
    let value = |pointer: &[&str]| {
        pointer.iter().skip(1).try_fold(record.0.get(*pointer.first()?)?, |value, key| value.get(key))
    };
    let rating = rating(value(&["data", "rating"]));
    let message = value(&["meta", "message_id"]).and_then(Value::as_str);
    let snapshot = value(&["snapshot", "chat", "chat"]);
    let Some(snapshot) = snapshot else {
        // An old export has no texts at all.
        let unjudged = rating.is_null();
        let chat = Chat {
            ratings: vec![Rating { message: String::new(), value: Value::Null }],
            ..Chat::new(String::new())
        };
        return if unjudged { Ok(chat) } else { Err(missing("no `snapshot`, so there is no text")) };
    };
    let message = message.ok_or_else(|| missing("no `meta.message_id`"))?.to_owned();
    let key = value(&["meta", "chat_id"]).or_else(|| value(&["snapshot", "chat", "id"]));
    let mut chat = history(snapshot, key.and_then(Value::as_str).unwrap_or_default())?;
    chat.ratings = vec![Rating { message, value: rating }];
    Ok(chat)
}

/// Reads a record of the chat export: the ratings of all messages.
pub(super) fn chat(record: &Object) -> Result<Chat, Flaw> {
    let chat = record.0.get("chat").unwrap_or(&Value::Null);
    let key = record.0.get("id").and_then(Value::as_str).unwrap_or_default();
    let mut parsed = history(chat, key)?;
    let messages = chat.pointer("/history/messages").and_then(Value::as_object);
    for (id, message) in messages.into_iter().flatten() {
        if let Some(value) = message.pointer("/annotation/rating") {
            parsed.ratings.push(Rating { message: id.clone(), value: rating(Some(value)) });
        }
    }
    Ok(parsed)
}

/// Returns a rating: 1, -1, and null for 0, which the application shows as a draw.
fn rating(value: Option<&Value>) -> Value {
    let number = |value: &Value| match value {
        Value::String(text) => text.trim().parse::<f64>().ok(),
        value => value.as_f64(),
    };
    match value {
        None => Value::Null,
        Some(value) if number(value) == Some(0.0) => Value::Null,
        Some(value) => value.clone(),
    }
}

fn history(chat: &Value, key: &str) -> Result<Chat, Flaw> {
    let messages = chat.pointer("/history/messages").unwrap_or(&Value::Null);
    let object = messages.as_object().ok_or_else(|| wrong_type("history.messages", messages, "an object"))?;
    let system = chat.pointer("/params/system").and_then(Value::as_str).map(str::trim);
    Ok(Chat {
        system: system.filter(|text| !text.is_empty()).map(str::to_owned),
        messages: object.iter().map(|(id, value)| message(id, value)).collect(),
        ..Chat::new(key.to_owned())
    })
}

fn message(id: &str, value: &Value) -> ChatMessage {
    let empty = Map::new();
    let fields = value.as_object().unwrap_or(&empty);
    let text = |key: &str| fields.get(key).and_then(Value::as_str);
    let mut content = ChatText::read(fields.get("content").unwrap_or(&Value::Null));
    let files = fields.get("files").and_then(Value::as_array).is_some_and(|files| !files.is_empty());
    if content.text.contains("<details type=\"tool_calls\"") || content.text.contains("<details type=\"code_")
    {
        content.unusable = Some(TOOL_TURN);
    } else if files {
        content.unusable = Some(IMAGE_PART);
    } else if fields.get("error").is_some_and(|error| !error.is_null() && error != false) {
        content.unusable = Some(super::message::ERROR);
    }
    content = without_reasoning(content);
    ChatMessage {
        id: id.to_owned(),
        parent: text("parentId").map(str::to_owned),
        role: text("role").map_or(ChatRole::Tool, ChatRole::from_name),
        text: content,
    }
}

/// Removes the blocks in which the application shows a model's reasoning.
fn without_reasoning(mut content: ChatText) -> ChatText {
    const START: &str = "<details type=\"reasoning\"";
    const END: &str = "</details>";
    while let Some(start) = content.text.find(START) {
        let rest = &content.text[start..];
        let end = rest.find(END).map_or(rest.len(), |end| end + END.len());
        content.text.replace_range(start..start + end, "");
        content.had_reasoning = true;
    }
    content.text = content.text.trim().to_owned();
    content
}
