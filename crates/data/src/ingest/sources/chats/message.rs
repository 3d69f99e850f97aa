//! A conversation as a tree of messages, and the replies in it that have a rating.

use serde_json::Value;

use super::RatedReply;
use crate::{
    Message,
    ingest::{
        raw::{Flaw, RejectReason, Remark},
        sources::{columns::FoundValue, thumb_words::ThumbWords, tree::MessageTree},
    },
};

/// Reasons for leaving out a message, and all that follow it.
pub(super) const EMPTY_TEXT: &str = "empty_text";
pub(super) const ERROR: &str = "error";
pub(super) const IMAGE_PART: &str = "image_part";
pub(super) const TOOL_TURN: &str = "tool_turn";

/// A conversation.
#[derive(Debug)]
pub(super) struct Chat {
    /// Name that tells it from the other conversations of the source.
    pub(super) key: String,
    /// System message before its first turn.
    pub(super) system: Option<String>,
    pub(super) messages: Vec<ChatMessage>,
    pub(super) ratings: Vec<Rating>,
}

/// A message of a conversation.
#[derive(Debug)]
pub(super) struct ChatMessage {
    pub(super) id: String,
    pub(super) parent: Option<String>,
    pub(super) role: ChatRole,
    pub(super) text: ChatText,
}

/// Author of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChatRole {
    User,
    Assistant,
    System,
    Tool,
    /// Not a part of the conversation, like the root of ChatGPT's trees.
    Hidden,
}

/// Text of a message.
#[derive(Debug, Default)]
pub(super) struct ChatText {
    /// Text, trimmed.
    pub(super) text: String,
    /// Reason why the message cannot be used.
    pub(super) unusable: Option<&'static str>,
    /// True if reasoning was removed from it.
    pub(super) had_reasoning: bool,
}

/// A rating of a message.
#[derive(Debug, Clone)]
pub(super) struct Rating {
    pub(super) message: String,
    pub(super) value: Value,
}

/// Rated replies of a conversation, and what was found on the way.
#[derive(Default)]
pub(super) struct Judged {
    pub(super) replies: Vec<RatedReply>,
    pub(super) flaws: Vec<Flaw>,
    pub(super) remarks: Vec<Remark>,
}

impl ChatRole {
    /// Returns the role with this name.
    pub(super) fn from_name(name: &str) -> Self {
        match name {
            "user" => Self::User,
            "assistant" => Self::Assistant,
            "system" => Self::System,
            _ => Self::Tool,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::System => "system",
            Self::Tool => "tool",
            Self::Hidden => "hidden",
        }
    }
}

impl ChatText {
    /// Reads a text, or a list of parts with texts. Reasoning is left out.
    pub(super) fn read(value: &Value) -> Self {
        let mut text = Self::default();
        match value {
            Value::String(whole) => text.push(whole),
            Value::Array(parts) => parts.iter().for_each(|part| text.part(part)),
            Value::Null => {}
            _ => text.unusable = Some("unknown_part"),
        }
        text.text = text.text.trim().to_owned();
        text
    }

    fn push(&mut self, text: &str) {
        if !self.text.is_empty() && !text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(text);
    }

    fn part(&mut self, part: &Value) {
        let inner = |key: &str| match part.get(key) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Object(object)) => object.get("value").and_then(Value::as_str).map(str::to_owned),
            _ => None,
        };
        let kind = part.get("type").and_then(Value::as_str).unwrap_or("text");
        match (part, kind) {
            (Value::String(text), _) => self.push(text),
            (_, "text" | "output_text" | "input_text") => match inner("text") {
                Some(text) => self.push(&text),
                None => self.unusable = Some("unknown_part"),
            },
            (_, "think" | "thinking" | "reasoning") => self.had_reasoning = true,
            (_, "error") => self.unusable = Some(ERROR),
            (_, kind) if kind.contains("tool") => self.unusable = Some(TOOL_TURN),
            (_, kind) if kind.contains("image") || kind.contains("file") => self.unusable = Some(IMAGE_PART),
            _ => self.unusable = Some("unknown_part"),
        }
    }
}

impl Chat {
    /// Makes a conversation without messages.
    pub(super) fn new(key: String) -> Self {
        Self { key, system: None, messages: Vec::new(), ratings: Vec::new() }
    }

    /// Links replies to the nearest ancestor that is part of the conversation.
    fn without_hidden(mut self) -> Self {
        if self.messages.iter().all(|message| message.role != ChatRole::Hidden) {
            return self;
        }
        let tree = tree(&self.messages);
        let is_hidden = |index: usize| self.messages[index].role == ChatRole::Hidden;
        let mut parents = Vec::new();
        for index in 0..self.messages.len() {
            let Some(parent) = tree.parent(index).filter(|parent| is_hidden(*parent)) else { continue };
            // A cycle of hidden messages has no end.
            let ancestors = std::iter::successors(Some(parent), |index| tree.parent(*index));
            let visible = ancestors.take(self.messages.len()).find(|index| !is_hidden(*index));
            parents.push((index, visible.map(|visible| self.messages[visible].id.clone())));
        }
        for (index, parent) in parents {
            self.messages[index].parent = parent;
        }
        self.messages.retain(|message| message.role != ChatRole::Hidden);
        self
    }

    /// Returns the replies that have a thumb.
    pub(super) fn judge(self, words: &ThumbWords) -> Judged {
        let chat = self.without_hidden();
        let tree = tree(&chat.messages);
        let left_out = tree.follow(|index| chat.unusable(index));
        let mut judged = Judged::default();
        for Rating { message: id, value } in &chat.ratings {
            let thumb = match words.read(FoundValue { name: "rating", value }) {
                Ok(thumb) => thumb,
                Err(flaw) => {
                    judged.flaws.push(flaw);
                    continue;
                }
            };
            judged.remarks.extend(thumb.remark);
            let Some(label) = thumb.label else {
                judged.remarks.push(Remark::Filtered("no_judgement"));
                continue;
            };
            let Some(index) = chat.messages.iter().position(|message| message.id == *id) else {
                let detail = "the rated message is not in the conversation".to_owned();
                judged.flaws.push(Flaw { reason: RejectReason::MissingField, detail });
                continue;
            };
            match (chat.messages[index].role, left_out[index]) {
                (ChatRole::Assistant, None) => {
                    let reply = chat.reply(&tree, &left_out, index, label);
                    judged.remarks.extend(chat.removed_reasoning(&tree, index));
                    if reply.prompt.iter().any(|turn| turn.role == "user") {
                        judged.replies.push(reply);
                    } else {
                        judged.flaws.push(no_prompt());
                    }
                }
                (ChatRole::Assistant, Some(EMPTY_TEXT)) => {
                    let detail = "the rated reply is empty".to_owned();
                    judged.flaws.push(Flaw { reason: RejectReason::EmptyCompletion, detail });
                }
                (_, Some(why)) => judged.remarks.push(Remark::Filtered(why)),
                (role, None) => {
                    let detail = format!("the rated message is of the {}", role.name());
                    judged.flaws.push(Flaw { reason: RejectReason::NoAssistantTurn, detail });
                }
            }
        }
        judged
    }

    fn unusable(&self, index: usize) -> Option<&'static str> {
        let message = &self.messages[index];
        let tool = (message.role == ChatRole::Tool).then_some(TOOL_TURN);
        tool.or(message.text.unusable).or_else(|| message.text.text.is_empty().then_some(EMPTY_TEXT))
    }

    fn reply(
        &self,
        tree: &MessageTree,
        left_out: &[Option<&'static str>],
        index: usize,
        label: bool,
    ) -> RatedReply {
        let turn = |index: usize| {
            let ChatMessage { role, text, .. } = &self.messages[index];
            Message { role: role.name().to_owned(), content: text.text.clone() }
        };
        let mut prompt: Vec<Message> = tree.path(index).skip(1).map(turn).collect();
        if let Some(system) = &self.system {
            prompt.push(Message { role: "system".to_owned(), content: system.clone() });
        }
        prompt.reverse();
        let parent = tree.parent(index);
        let rated = |id: &str| self.ratings.iter().any(|rating| rating.message == id);
        let is_sibling = |other: usize| {
            other != index
                && parent.is_some()
                && tree.parent(other) == parent
                && left_out[other].is_none()
                && self.messages[other].role == ChatRole::Assistant
                && !rated(&self.messages[other].id)
        };
        let siblings = (0..self.messages.len()).filter(|other| is_sibling(*other));
        RatedReply {
            parent: (self.key.clone(), parent.map(|parent| self.messages[parent].id.clone())),
            id: self.messages[index].id.clone(),
            prompt,
            reply: turn(index),
            label,
            siblings: siblings.map(|other| (self.messages[other].id.clone(), turn(other))).collect(),
        }
    }

    fn removed_reasoning(&self, tree: &MessageTree, index: usize) -> Option<Remark> {
        let removed = tree.path(index).any(|index| self.messages[index].text.had_reasoning);
        removed.then_some(Remark::Repaired("reasoning_block"))
    }
}

fn no_prompt() -> Flaw {
    Flaw { reason: RejectReason::EmptyPrompt, detail: "no message of the user precedes the reply".to_owned() }
}

fn tree(messages: &[ChatMessage]) -> MessageTree {
    MessageTree::new(messages.iter().map(|message| (message.id.as_str(), message.parent.as_deref())))
}
