//! Conversations in common notations: plain text, or a list of turns in OpenAI's or ShareGPT's
//! format.

use serde_json::{Map, Value};

use crate::{
    Message,
    ingest::{
        raw::{Flaw, RejectReason},
        sources::{excerpt::excerpt, json::wrong_type},
    },
};

/// Parses a conversation. Plain text, or a list of texts, becomes one turn of `role` each. A turn
/// is `{role, content}` or `{from, value}`.
pub(crate) fn turns(name: &str, value: &Value, role: &str) -> Result<Vec<Message>, Flaw> {
    match value {
        Value::Array(turns) => turns.iter().map(|turn| self::turn(name, turn, role)).collect(),
        turn => Ok(vec![self::turn(name, turn, role)?]),
    }
}

fn turn(name: &str, value: &Value, role: &str) -> Result<Message, Flaw> {
    match value {
        Value::String(text) => Ok(Message { role: role.to_owned(), content: text.trim().to_owned() }),
        Value::Object(turn) => {
            let given = field(name, turn, &["role", "from"])?;
            let given = given.as_str().ok_or_else(|| wrong_type(name, given, "a role's name"))?;
            if turn.get("tool_calls").and_then(Value::as_array).is_some_and(|calls| !calls.is_empty()) {
                let detail = format!("`{name}` has a turn that calls a tool; only turns of text can be used");
                return Err(Flaw { reason: RejectReason::UnknownRole, detail });
            }
            let content = field(name, turn, &["content", "value"])?;
            Ok(Message { role: known_role(name, given)?.to_owned(), content: self::content(name, content)? })
        }
        other => Err(wrong_type(name, other, "text or turns with `role` and `content`")),
    }
}

fn field<'a>(name: &str, turn: &'a Map<String, Value>, keys: &[&str; 2]) -> Result<&'a Value, Flaw> {
    keys.iter().find_map(|key| turn.get(*key)).ok_or_else(|| Flaw {
        reason: RejectReason::MissingField,
        detail: format!("a turn of `{name}` has neither `{}` nor `{}`", keys[0], keys[1]),
    })
}

/// Returns a turn's text, trimmed. Parts of type `text` are joined; other parts are rejected.
fn content(name: &str, value: &Value) -> Result<String, Flaw> {
    let part = |part: &Value| match part {
        Value::String(text) => Ok(text.clone()),
        Value::Object(part) if part.get("type").is_none_or(|kind| kind == "text") => part
            .get("text")
            .and_then(Value::as_str)
            .map(str::to_owned)
            .ok_or_else(|| wrong_type(name, &Value::Null, "a part with text")),
        other => Err(wrong_type(name, other, "text: parts of other types cannot be used")),
    };
    let text = match value {
        Value::Array(parts) => parts.iter().map(part).collect::<Result<Vec<_>, _>>()?.join("\n"),
        single => part(single)?,
    };
    Ok(text.trim().to_owned())
}

/// Maps a role to our name for it. Tool turns are not supported.
fn known_role(name: &str, given: &str) -> Result<&'static str, Flaw> {
    match given.to_ascii_lowercase().as_str() {
        "user" | "human" | "prompter" => Ok("user"),
        "assistant" | "gpt" | "model" | "bot" | "chatbot" | "chatgpt" => Ok("assistant"),
        "system" => Ok("system"),
        _ => Err(Flaw {
            reason: RejectReason::UnknownRole,
            detail: format!(
                "`{name}` has a turn of {}; roles are user, assistant and system",
                excerpt(given)
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_and_turns_of_both_conventions_are_read() {
        let system = Message { role: "system".to_owned(), content: "s".to_owned() };
        let expected = [system, Message::user("a"), Message::assistant("b")];
        for value in [
            json!([{"role": "system", "content": "s"}, {"role": "user", "content": " a\n"}, {"role": "assistant", "content": "b"}]),
            json!([{"from": "system", "value": "s"}, {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]),
            json!([{"role": "system", "content": [{"type": "text", "text": "s"}]}, {"role": "User", "content": ["a"]}, {"role": "model", "content": "b"}]),
        ] {
            assert_eq!(turns("p", &value, "user").unwrap(), expected);
        }
        assert_eq!(turns("p", &json!(" a "), "assistant").unwrap(), [Message::assistant("a")]);
    }

    #[test]
    fn what_cannot_be_a_turn_is_named() {
        for (value, reason) in [
            (json!(true), RejectReason::WrongType),
            (json!([{"role": "user"}]), RejectReason::MissingField),
            (json!([{"role": 1, "content": "a"}]), RejectReason::WrongType),
            (json!([{"role": "user", "content": 1}]), RejectReason::WrongType),
            (json!([{"role": "tool", "content": "a"}]), RejectReason::UnknownRole),
            (
                json!([{"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]}]),
                RejectReason::UnknownRole,
            ),
            (json!([{"role": "user", "content": [{"type": "image"}]}]), RejectReason::WrongType),
        ] {
            assert_eq!(turns("p", &value, "user").unwrap_err().reason, reason, "{value}");
        }
    }
}
