//! FastChat's own logs: a vote on the last reply of one conversation, or between those of two.

use serde_json::Value;

use super::ChatRecord;
use crate::{
    Message,
    ingest::{
        raw::{Flaw, RawCompletion, RejectReason},
        sources::{columns::split_last, json::Object, per_record::Draft},
    },
};

/// Returns true for a line of the log.
pub(super) fn is_vote(record: &Object) -> bool {
    let state = |value: &Value| value.get("messages").is_some() && value.get("offset").is_some();
    record.0.get("type").is_some_and(Value::is_string)
        && (record.0.get("state").is_some_and(state)
            || record
                .0
                .get("states")
                .and_then(Value::as_array)
                .is_some_and(|states| states.iter().all(state)))
}

/// Reads a line of the log.
pub(super) fn vote(record: &Object) -> Result<ChatRecord, Flaw> {
    let kind = record.0.get("type").and_then(Value::as_str).unwrap_or_default();
    let states = record.0.get("states").and_then(Value::as_array);
    let draft = match (kind, states.map(Vec::as_slice)) {
        ("upvote" | "downvote", _) => {
            let (prompt, reply) = last_reply(record.0.get("state").unwrap_or(&Value::Null))?;
            let label = Some(kind == "upvote");
            let completions = vec![RawCompletion { messages: vec![reply], score: None, label }];
            Draft { prompt, completions, ..Draft::default() }
        }
        ("leftvote" | "rightvote", Some([left, right])) => {
            let (prompt, left) = last_reply(left)?;
            let (other, right) = last_reply(right)?;
            if prompt != other {
                let detail = "the two conversations differ before their last reply".to_owned();
                return Err(Flaw { reason: RejectReason::UnequalPrompts, detail });
            }
            let side = |reply| RawCompletion { messages: vec![reply], score: None, label: None };
            let sides = if kind == "leftvote" { [left, right] } else { [right, left] };
            let completions = sides.map(side).into();
            Draft { prompt, completions, pairs: vec![(0, 1)], ..Draft::default() }
        }
        ("tievote", _) => return Ok(ChatRecord::Unjudged("tie")),
        ("bothbad_vote", _) => return Ok(ChatRecord::Unjudged("both_bad")),
        ("flag", _) => return Ok(ChatRecord::Unjudged("flag")),
        _ => return Ok(ChatRecord::Unjudged("no_judgement")),
    };
    Ok(ChatRecord::Judged(draft))
}

/// Splits a conversation before its last reply. Turns before `offset` belong to the template.
fn last_reply(state: &Value) -> Result<(Vec<Message>, Message), Flaw> {
    let bad = |detail: &str| Flaw { reason: RejectReason::WrongType, detail: detail.to_owned() };
    let offset = state.get("offset").and_then(Value::as_u64).unwrap_or_default() as usize;
    let messages =
        state.get("messages").and_then(Value::as_array).ok_or_else(|| bad("no list of messages"))?;
    let user = state.pointer("/roles/0").and_then(Value::as_str);
    let turn = |value: &Value| {
        let (role, text) = (value.get(0).and_then(Value::as_str), value.get(1).and_then(Value::as_str));
        let (Some(role), Some(text)) = (role, text) else {
            return Err(bad("a message is not a name and a text"));
        };
        let by_user = user.map_or(role.eq_ignore_ascii_case("user"), |user| user == role);
        let text = text.trim();
        Ok(if by_user { Message::user(text) } else { Message::assistant(text) })
    };
    let turns = messages.iter().skip(offset).map(turn).collect::<Result<Vec<_>, Flaw>>()?;
    split_last("state.messages", turns)
}
