//! Prompt and completion of a trace: what an application logged as input and output.

use serde_json::{Map, Value, json};

use crate::{
    Message,
    ingest::{
        raw::{Flaw, RawCompletion, RejectReason},
        sources::{
            columns::{Columns, FoundValue, RecordField},
            json::{self, Object},
            labels,
            turns::turns,
        },
    },
};

/// Keys under which applications log their input.
const INPUT: [&str; 5] = ["input", "messages", "inputs", "request_body", "request"];

/// Keys under which applications log their output.
const OUTPUT: [&str; 5] = ["output_message", "output", "outputs", "response_body", "response"];

/// Names of a question within an input.
const QUESTION: [&str; 9] =
    ["question", "input", "prompt", "query", "user_query", "text", "message", "content", "instruction"];

/// Names of an answer within an output.
const ANSWER: [&str; 9] =
    ["output", "answer", "response", "text", "completion", "result", "generated_text", "content", "message"];

/// A completion, or the reason for leaving it out.
type Answer = Result<RawCompletion, &'static str>;

/// Returns the prompt and the completion of a record. A trace has them as input and output, other
/// records in columns of their own.
pub(super) fn prompt_and_completion(
    columns: &Columns,
    record: &Object,
    is_trace: bool,
) -> Result<(Vec<Message>, Answer), Flaw> {
    if !is_trace {
        let (prompt, completion) = labels::judged(columns, record)?;
        return Ok((prompt, Ok(completion)));
    }
    let side = |field, keys: &[&'static str], what: &str| {
        let own = columns.mapping(field).and_then(|_| columns.find(record, field));
        let at = |key: &&'static str| record.0.get(*key).map(|value| FoundValue { name: key, value });
        let given = keys.iter().filter_map(at).find(|found| !found.value.is_null());
        // Null is an empty side, which says more than a missing one.
        let logged = || given.or_else(|| keys.iter().find_map(at));
        own.or_else(logged).ok_or_else(|| Flaw {
            reason: RejectReason::MissingField,
            detail: format!("the trace has no {what}; name it in `columns`"),
        })
    };
    let input = side(RecordField::Prompt, &INPUT, "prompt")?;
    let output = side(RecordField::Completion, &OUTPUT, "completion")?;
    Ok((prompt(input)?, completion(output)?))
}

/// Reads an input: a text, turns, an object with turns or a question, or one of these as JSON.
fn prompt(found: FoundValue<'_>) -> Result<Vec<Message>, Flaw> {
    let FoundValue { name, value } = found;
    if let Some(parsed) = embedded(value) {
        return prompt(FoundValue { name, value: &parsed });
    }
    match value {
        Value::Object(object) if !object.contains_key("role") && !is_langchain(value) => {
            if let Some(messages) = object.get("messages") {
                let mut turns = prompt(FoundValue { name, value: messages })?;
                let system = object.get("system").and_then(Value::as_str).map(str::trim);
                if let Some(text) = system.filter(|text| !text.is_empty()) {
                    turns.insert(0, Message { role: "system".to_owned(), content: text.to_owned() });
                }
                return Ok(turns);
            }
            let value = only_text(name, object, &QUESTION, "prompt")?;
            prompt(FoundValue { name, value })
        }
        // LangChain logs a batch of conversations.
        Value::Array(list) if list.len() == 1 && list[0].is_array() => {
            prompt(FoundValue { name, value: &list[0] })
        }
        other => turns(name, &plain_turns(other), "user"),
    }
}

/// Reads an output: a text, a turn, turns, an object with choices, turns or an answer, or JSON.
fn completion(found: FoundValue<'_>) -> Result<Answer, Flaw> {
    let FoundValue { name, value } = found;
    if let Some(parsed) = embedded(value) {
        return completion(FoundValue { name, value: &parsed });
    }
    match value {
        Value::Null => {
            Err(Flaw { reason: RejectReason::EmptyCompletion, detail: format!("`{name}` is empty") })
        }
        Value::Object(object) if is_turn(object) || is_langchain(value) => {
            let calls = object.get("tool_calls").and_then(Value::as_array);
            let calls = calls.is_some_and(|calls| !calls.is_empty());
            let empty = object.get("content").is_none_or(|content| content.is_null() || content == "");
            if calls && empty && !is_langchain(value) {
                return Ok(Err("tool_turn"));
            }
            let list = Value::Array(vec![value.clone()]);
            let mut messages = turns(name, &plain_turns(&list), "assistant")?;
            match messages.pop() {
                Some(turn) if turn.role == "assistant" => {
                    Ok(Ok(RawCompletion { messages: vec![turn], score: None, label: None }))
                }
                _ => Err(not_one_turn(name)),
            }
        }
        Value::Object(object) => {
            if object.get("error").is_some_and(|error| !error.is_null()) && !object.contains_key("choices") {
                return Err(Flaw {
                    reason: RejectReason::MissingField,
                    detail: format!("`{name}` is an error and no reply"),
                });
            }
            if let Some(first) = object.get("choices").and_then(|choices| choices.get(0)) {
                let message = first.get("message").or_else(|| first.get("text"));
                return completion(FoundValue { name, value: message.unwrap_or(&Value::Null) });
            }
            if let Some(messages) = object.get("messages") {
                return completion(FoundValue { name, value: messages });
            }
            if let Some(generation) = value.pointer("/generations/0/0") {
                let message = generation.get("message").or_else(|| generation.get("text"));
                return completion(FoundValue { name, value: message.unwrap_or(&Value::Null) });
            }
            completion(FoundValue { name, value: only_text(name, object, &ANSWER, "completion")? })
        }
        Value::Array(list) => match list.as_slice() {
            [only] => completion(FoundValue { name, value: only }),
            list if list.iter().any(is_tool_turn) => Ok(Err("tool_turn")),
            _ => Err(not_one_turn(name)),
        },
        other => {
            let messages = turns(name, other, "assistant")?;
            Ok(Ok(RawCompletion { messages, score: None, label: None }))
        }
    }
}

fn not_one_turn(name: &str) -> Flaw {
    Flaw {
        reason: RejectReason::NoAssistantTurn,
        detail: format!("`{name}` is not one turn of the assistant"),
    }
}

/// Returns a list or an object that is JSON in a text.
fn embedded(value: &Value) -> Option<Value> {
    let text = value.as_str()?.trim();
    let whole = text.starts_with('{') && text.ends_with('}') || text.starts_with('[') && text.ends_with(']');
    let parsed = json::value(text).filter(|_| whole)?;
    // An answer that is JSON is a text of its own.
    let known = |object: &Map<String, Value>| {
        is_turn(object) || ["messages", "choices"].iter().any(|key| object.contains_key(*key))
    };
    match &parsed {
        Value::Object(object) if known(object) => Some(parsed),
        Value::Array(list)
            if !list.is_empty() && list.iter().all(|item| item.as_object().is_some_and(is_turn)) =>
        {
            Some(parsed)
        }
        _ => None,
    }
}

fn is_turn(object: &Map<String, Value>) -> bool {
    object.contains_key("role") && object.contains_key("content")
}

fn is_tool_turn(turn: &Value) -> bool {
    turn.get("role").is_some_and(|role| role == "tool" || role == "function")
        || turn.get("tool_calls").and_then(Value::as_array).is_some_and(|calls| !calls.is_empty())
}

/// Returns true for a message as LangChain serialises it.
fn is_langchain(value: &Value) -> bool {
    value.get("lc").is_some() && value.pointer("/kwargs/content").is_some()
}

/// Replaces messages of LangChain by turns.
fn plain_turns(value: &Value) -> Value {
    match value {
        Value::Array(list) => list.iter().map(plain_turns).collect(),
        message if is_langchain(message) => {
            let class = message.pointer("/id").and_then(Value::as_array).and_then(|id| id.last());
            let role = match class.and_then(Value::as_str).unwrap_or_default() {
                "HumanMessage" | "HumanMessageChunk" => "user",
                "AIMessage" | "AIMessageChunk" => "assistant",
                "SystemMessage" => "system",
                other => other,
            };
            json!({ "role": role, "content": message.pointer("/kwargs/content") })
        }
        other => other.clone(),
    }
}

/// Returns the value under the first known key, or the only text of an object.
fn only_text<'a>(
    name: &str,
    object: &'a Map<String, Value>,
    known: &[&str],
    field: &str,
) -> Result<&'a Value, Flaw> {
    if let Some(value) = known.iter().find_map(|key| object.get(*key).filter(|value| !value.is_null())) {
        return Ok(value);
    }
    let mut texts = object.values().filter(|value| value.is_string());
    match (texts.next(), texts.next()) {
        (Some(text), None) => Ok(text),
        _ => Err(Flaw {
            reason: RejectReason::MissingField,
            detail: format!(
                "`{name}` has the keys {}, none of which is known; name it in `columns` (`{field}: {name}.KEY`)",
                object.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
            ),
        }),
    }
}
