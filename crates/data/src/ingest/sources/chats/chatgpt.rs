//! ChatGPT's data export: `conversations.json`, with a tree of messages in each record, and
//! `message_feedback.json`, with the thumbs.

use serde_json::Value;

use super::{
    ChatRecord,
    message::{Chat, ChatMessage, ChatRole, ChatText, IMAGE_PART, Rating, TOOL_TURN},
};
use crate::ingest::{
    raw::{Flaw, RejectReason},
    sources::json::Object,
};

/// Returns true for a conversation.
pub(super) fn is_conversation(record: &Object) -> bool {
    record.0.get("mapping").is_some_and(Value::is_object)
}

/// Returns true for a rating of a message.
pub(super) fn is_rating(record: &Object) -> bool {
    /// Keys of logs that hold the texts themselves.
    const TEXTS: [&str; 12] = [
        "answer",
        "completion",
        "input",
        "instruction",
        "mapping",
        "messages",
        "output",
        "prompt",
        "query",
        "question",
        "response",
        "text",
    ];
    let has = |key: &str| record.0.contains_key(key);
    has("conversation_id")
        && has("rating")
        && (has("message_id") || has("id"))
        && !TEXTS.iter().any(|key| has(key))
}

/// Reads a conversation, whose ratings are in other records.
pub(super) fn conversation(record: &Object) -> Chat {
    let text = |key: &str| record.0.get(key).and_then(Value::as_str);
    let key = text("conversation_id").or_else(|| text("id")).unwrap_or_default();
    let mut chat = Chat::new(key.to_owned());
    let nodes = record.0.get("mapping").and_then(Value::as_object).into_iter().flatten();
    chat.messages = nodes.map(|(id, node)| message(id, node)).collect();
    chat
}

/// Reads a rating.
pub(super) fn rating(record: &Object) -> Result<ChatRecord, Flaw> {
    let text = |key: &str| record.0.get(key).and_then(Value::as_str).map(str::to_owned);
    let message = text("message_id").or_else(|| text("id"));
    let (Some(chat), Some(message)) = (text("conversation_id"), message) else {
        let detail = "no `conversation_id` or `message_id`".to_owned();
        return Err(Flaw { reason: RejectReason::MissingField, detail });
    };
    let value = record.0.get("rating").cloned().unwrap_or(Value::Null);
    Ok(ChatRecord::Rating { chat, rating: Rating { message, value } })
}

fn message(id: &str, node: &Value) -> ChatMessage {
    let text = |pointer: &str| node.pointer(pointer).and_then(Value::as_str);
    let mut role = text("/message/author/role").map_or(ChatRole::Hidden, ChatRole::from_name);
    let mut content = ChatText::default();
    match text("/message/content/content_type") {
        Some("text") => {
            content = ChatText::read(node.pointer("/message/content/parts").unwrap_or(&Value::Null));
        }
        Some("multimodal_text") => content.unusable = Some(IMAGE_PART),
        // Reasoning, and what the application tells the model about the user.
        Some("thoughts" | "reasoning_recap" | "user_editable_context" | "model_editable_context") | None => {
            role = ChatRole::Hidden;
        }
        Some(_) => content.unusable = Some(TOOL_TURN),
    }
    if text("/message/recipient").is_some_and(|recipient| recipient != "all") {
        content.unusable = Some(TOOL_TURN);
    }
    // Every tree begins with an empty system message.
    if role == ChatRole::System && content.text.is_empty() {
        role = ChatRole::Hidden;
    }
    let parent = node.get("parent").and_then(Value::as_str).map(str::to_owned);
    ChatMessage { id: id.to_owned(), parent, role, text: content }
}
