//! LibreChat: an exported conversation, with its messages as a list or as a tree, and dumps of
//! messages. Messages have no role; `isCreatedByUser` says who wrote them.

use serde_json::Value;

use super::{
    ChatRecord,
    message::{Chat, ChatMessage, ChatRole, ChatText, ERROR, Rating},
};
use crate::ingest::{
    raw::{Flaw, RejectReason},
    sources::json::Object,
};

/// Parent of the first messages.
const ROOT: &str = "00000000-0000-0000-0000-000000000000";

/// Returns true for an exported conversation.
pub(super) fn is_conversation(record: &Object) -> bool {
    record.0.contains_key("conversationId")
        && (record.0.get("messages").is_some_and(is_messages)
            || record.0.get("messagesTree").is_some_and(is_messages))
}

/// Returns true for a single message.
pub(super) fn is_message(record: &Object) -> bool {
    ["messageId", "parentMessageId", "isCreatedByUser"].iter().all(|key| record.0.contains_key(*key))
}

fn is_messages(value: &Value) -> bool {
    value.as_array().is_some_and(|list| list.iter().all(|message| message.get("messageId").is_some()))
}

/// Reads a conversation.
pub(super) fn conversation(record: &Object) -> Result<Chat, Flaw> {
    let key = record.0.get("conversationId").and_then(Value::as_str).unwrap_or_default();
    let mut chat = Chat::new(key.to_owned());
    let list = record.0.get("messages").filter(|value| is_messages(value));
    let list = list.or_else(|| record.0.get("messagesTree")).and_then(Value::as_array);
    let mut next: Vec<&Value> = list.into_iter().flatten().rev().collect();
    while let Some(value) = next.pop() {
        let (message, rating) = one(value)?;
        chat.ratings.extend(rating.map(|value| Rating { message: message.id.clone(), value }));
        chat.messages.push(message);
        next.extend(value.get("children").and_then(Value::as_array).into_iter().flatten().rev());
    }
    Ok(chat)
}

/// Reads a single message.
pub(super) fn message(record: &Object) -> Result<ChatRecord, Flaw> {
    let value = Value::Object(record.0.clone());
    let (message, rating) = one(&value)?;
    let chat = value.get("conversationId").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(ChatRecord::Message { chat, message: Box::new(message), rating })
}

fn one(value: &Value) -> Result<(ChatMessage, Option<Value>), Flaw> {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let truth = |key: &str| value.get(key).and_then(Value::as_bool);
    let missing =
        |key: &str| Flaw { reason: RejectReason::MissingField, detail: format!("a message has no `{key}`") };
    let id = text("messageId").ok_or_else(|| missing("messageId"))?;
    let by_user = truth("isCreatedByUser").ok_or_else(|| missing("isCreatedByUser"))?;
    let whole = value.get("text").filter(|text| text.as_str().is_some_and(|text| !text.trim().is_empty()));
    let parts = value.get("content").filter(|parts| parts.is_array());
    let mut content = ChatText::read(parts.or(whole).unwrap_or(&Value::Null));
    if content.text.is_empty() && content.unusable.is_none() {
        content = ChatText::read(whole.unwrap_or(&Value::Null));
    }
    let files = value.get("files").and_then(Value::as_array).is_some_and(|files| !files.is_empty());
    if truth("error") == Some(true) {
        content.unusable = Some(ERROR);
    } else if truth("unfinished") == Some(true) {
        content.unusable = Some("unfinished");
    } else if files {
        content.unusable = Some(super::message::IMAGE_PART);
    }
    let message = ChatMessage {
        id: id.to_owned(),
        parent: text("parentMessageId").filter(|id| *id != ROOT && !id.is_empty()).map(str::to_owned),
        role: if by_user { ChatRole::User } else { ChatRole::Assistant },
        text: content,
    };
    Ok((message, value.pointer("/feedback/rating").cloned()))
}
