//! Conversations that are embedded in text: turns as JSON or Python text, as tables hold them, and
//! transcripts.
//!
//! Both are replaced by their turns before a record is parsed. A text that begins like a list of
//! turns and cannot be parsed is a flaw: otherwise a model would be trained on its brackets.

use serde_json::{Value, json};

use crate::{
    Message,
    ingest::{
        raw::{Flaw, RejectReason, Remark},
        sources::{
            columns::{Columns, RecordField, value_mut},
            excerpt::excerpt,
            json::{self, Object},
            python, transcript,
        },
    },
};

/// Fields whose value is a conversation or one of its turns.
const TURNS: [RecordField; 7] = [
    RecordField::Prompt,
    RecordField::Conversation,
    RecordField::Completion,
    RecordField::Chosen,
    RecordField::Rejected,
    RecordField::First,
    RecordField::Second,
];

/// Parses a record of the user's own, with remarks on its repairs.
pub(crate) fn parse(record: &[u8], columns: &Columns) -> Result<(Object, Vec<Remark>), Flaw> {
    let mut object = json::parse::<Object>(record)?;
    let remarks = restore(&mut object, columns)?;
    Ok((object, remarks))
}

/// Replaces texts in a record that hold conversations by their turns, and texts that hold lists by
/// these lists. Returns remarks on the repairs.
pub(crate) fn restore(record: &mut Object, columns: &Columns) -> Result<Vec<Remark>, Flaw> {
    let mut remarks = Vec::new();
    let lists = restore_lists(record, columns)?;
    remarks.extend(lists.then_some(Remark::Repaired("turns_as_text")));
    let prompt = columns.find(record, RecordField::Prompt).and_then(|found| found.value.as_str());
    if let Some(text) = prompt {
        match transcript::turns(text) {
            None if transcript::is_open(text) => remarks.push(Remark::Noted("unsplit_transcript")),
            None => {}
            Some(turns) => {
                replace(record, columns, RecordField::Prompt, to_json(&turns));
                restore_completions(record, columns);
                remarks.push(Remark::Repaired("transcript"));
            }
        }
    } else if columns.find(record, RecordField::Prompt).is_none() {
        let mut found = false;
        for field in [RecordField::Conversation, RecordField::Chosen, RecordField::Rejected] {
            let text = columns.find(record, field).and_then(|found| found.value.as_str());
            if let Some(turns) = text.and_then(transcript::turns) {
                replace(record, columns, field, to_json(&turns));
                found = true;
            }
        }
        remarks.extend(found.then_some(Remark::Repaired("transcript")));
    }
    Ok(remarks)
}

/// Replaces lists that are text. Returns true if there were lists of turns among them.
fn restore_lists(record: &mut Object, columns: &Columns) -> Result<bool, Flaw> {
    let mut restored = false;
    for field in TURNS {
        let Some(found) = columns.find(record, field) else { continue };
        let Value::String(text) = found.value else { continue };
        let whole = matches!(field, RecordField::Prompt | RecordField::Conversation);
        let turns = if whole && text.trim() == "[]" { Some(json!([])) } else { turn_list(found.name, text)? };
        if let Some(turns) = turns {
            replace(record, columns, field, turns);
            restored = true;
        }
    }
    for field in [RecordField::Completions, RecordField::Scores] {
        let text = columns.find(record, field).and_then(|found| found.value.as_str());
        if let Some(list) = text.and_then(literal).filter(Value::is_array) {
            replace(record, columns, field, list);
        }
    }
    if let Some(found) = columns.find(record, RecordField::Completions)
        && let Value::Array(completions) = found.value
        && completions.iter().any(|completion| completion.as_str().is_some_and(is_bracketed))
    {
        let name = found.name;
        let completion = |value: &Value| match value {
            Value::String(text) => Ok(turn_list(name, text)?.unwrap_or_else(|| value.clone())),
            other => Ok(other.clone()),
        };
        let completions = completions.iter().map(completion).collect::<Result<Vec<_>, Flaw>>()?;
        replace(record, columns, RecordField::Completions, completions.into());
        restored = true;
    }
    if let Some(Value::String(text)) = columns.unmapped(record, "history")
        && is_bracketed(text)
    {
        let list = literal(text).filter(Value::is_array).ok_or_else(|| broken("history", text))?;
        record.0.insert("history".to_owned(), list);
    }
    Ok(restored)
}

/// Replaces the completions of a prompt that was a transcript where they repeat it, or begin with
/// the name of the assistant.
fn restore_completions(record: &mut Object, columns: &Columns) {
    let restored = |value: &Value| {
        let text = value.as_str()?;
        let turns = transcript::turns(text).map(|turns| to_json(&turns));
        turns.or_else(|| transcript::without_assistant(text).map(Value::from))
    };
    for field in [RecordField::Completion, RecordField::Chosen, RecordField::Rejected] {
        let value = columns.find(record, field).and_then(|found| restored(found.value));
        if let Some(value) = value {
            replace(record, columns, field, value);
        }
    }
    let list = columns.find(record, RecordField::Completions).and_then(|found| found.value.as_array());
    if let Some(list) = list {
        let list = list.iter().map(|value| restored(value).unwrap_or_else(|| value.clone())).collect();
        replace(record, columns, RecordField::Completions, list);
    }
}

fn replace(record: &mut Object, columns: &Columns, field: RecordField, value: Value) {
    let name = columns.find(record, field).map(|found| found.name.to_owned());
    if let Some(place) = name.and_then(|name| value_mut(&mut record.0, &name)) {
        *place = value;
    }
}

fn to_json(turns: &[Message]) -> Value {
    turns.iter().map(|turn| json!({ "role": turn.role, "content": turn.content })).collect()
}

/// Returns the turns that a text holds as JSON or Python text; None if it is another text.
fn turn_list(name: &str, text: &str) -> Result<Option<Value>, Flaw> {
    if !is_bracketed(text) {
        return Ok(None);
    }
    match literal(text) {
        Some(value) => Ok(Some(value).filter(is_turns)),
        None if begins_like_turns(text) => Err(broken(name, text)),
        None => Ok(None),
    }
}

fn broken(name: &str, text: &str) -> Flaw {
    Flaw {
        reason: RejectReason::TurnsAsText,
        detail: format!(
            "`{name}` is text that begins like a list of turns, but is neither JSON nor a Python literal: {}",
            excerpt(text)
        ),
    }
}

fn is_bracketed(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with(['[', '{', '(']) || text.starts_with("array(")
}

/// Parses JSON or a Python literal.
fn literal(text: &str) -> Option<Value> {
    let text = text.trim();
    json::value(text).or_else(|| python::parse(text))
}

/// Returns true for a turn or a list of turns.
fn is_turns(value: &Value) -> bool {
    let turns = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let all_have = |key: &str| !turns.is_empty() && turns.iter().all(|turn| turn.get(key).is_some());
    let some_has = |key: &str| turns.iter().any(|turn| turn.get(key).is_some());
    all_have("role") && (value.is_array() || some_has("content")) || all_have("from") && some_has("value")
}

/// Returns true if the beginning of a text has the keys of turns.
fn begins_like_turns(text: &str) -> bool {
    /// Characters looked at.
    const START: usize = 300;
    let end = text.char_indices().nth(START).map_or(text.len(), |(end, _)| end);
    let has = |keys: [&str; 4]| keys.iter().any(|key| text[..end].contains(key));
    has(["\"role\"", "'role'", "\"from\"", "'from'"])
        && (!text.trim_start().starts_with('{') || has(["\"content\"", "'content'", "\"value\"", "'value'"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{
        Message,
        ingest::{
            raw::RawGroup,
            sources::tests::{only, read},
        },
    };

    fn texts(group: &RawGroup) -> (Vec<Message>, Vec<&str>) {
        let sides = group.completions.iter().map(|side| side.messages[0].content.as_str());
        (group.prompt.clone(), sides.collect())
    }

    #[test]
    fn turns_as_json_or_python_text_are_turns() {
        let prompt = vec![Message::user("it's"), Message::assistant("b"), Message::user("c")];
        for row in [
            json!({
                "prompt": r#"[{"role": "user", "content": "it's"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]"#,
                "chosen": r#"[{"role": "assistant", "content": "x"}]"#,
                "rejected": r#"{"role": "assistant", "content": "y"}"#,
            }),
            json!({
                "prompt": r#"[{'from': 'human', 'value': "it's"}, {'from': 'gpt', 'value': 'b'}, {'from': 'human', 'value': 'c'}]"#,
                "chosen": "x",
                "rejected": "[{'from': 'gpt', 'value': 'y'}]",
            }),
            json!({
                "instruction": "c",
                "history": "[[\"it's\", 'b']]",
                "input": "",
                "chosen": "x",
                "rejected": "y",
            }),
        ] {
            assert_eq!(texts(&only(&row)), (prompt.clone(), vec!["x", "y"]), "{row}");
        }
        let row = json!({"messages": "[{'role': 'user', 'content': 'a'}\n {'role': 'assistant', 'content': 'b'}]", "label": true});
        assert_eq!(texts(&only(&row)), (vec![Message::user("a")], vec!["b"]));
        let table = b"prompt,completions,scores\nq,\"['a', 'b']\",\"[1, 2.5]\"\n";
        let scored = read("{binarise: {by: best_and_worst}}", "a.csv", table);
        assert_eq!(texts(&scored.groups[0]), (vec![Message::user("q")], vec!["a", "b"]));
        assert_eq!(scored.groups[0].pairs, [(1, 0)]);
    }

    #[test]
    fn text_that_begins_like_turns_is_never_trained_on() {
        let row = |prompt: &str| json!({"prompt": prompt, "completion": "a", "label": true}).to_string();
        let rows = [
            row("[{'role': 'user', 'content': 'cut off by the ta"),
            row("[{\"\"role\"\": \"\"user\"\", \"\"content\"\": \"\"twice quoted\"\"}]"),
            row("[]"),
            row("[1, 2, 3] is a list. Sort it."),
            row("{\"role\": \"admin\"}"),
            row("[\"a\", \"b\"]"),
        ];
        let reading = read("{}", "a.jsonl", rows.join("\n").as_bytes());
        let rejected: Vec<_> = reading.rejected.iter().map(|row| (row.line, row.reason.as_str())).collect();
        assert_eq!(rejected, [(1, "turns_as_text"), (2, "turns_as_text"), (3, "empty_prompt")]);
        assert_eq!(reading.groups.len(), 3);
        assert!(reading.counts.repaired.is_empty(), "{:?}", reading.counts);
    }

    #[test]
    fn transcripts_in_prompts_are_turns() {
        let prompt = vec![Message::user("a"), Message::assistant("b"), Message::user("c")];
        let text = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:";
        let whole = |answer: &str| format!("{text} {answer}");
        for row in [
            json!({"prompt": text, "response": "x", "chosen": " x", "rejected": " y"}),
            json!({"prompt": text, "chosen": whole("x"), "rejected": whole("y")}),
            json!({"prompt": text, "chosen": "\n\nAssistant: x", "rejected": "Assistant: y"}),
            json!({"prompt": text, "completions": ["x", whole("y")], "scores": [2, 1]}),
            json!({"chosen": whole("x").replace("Assistant", "assistant"), "rejected": whole("y").replace("Assistant", "assistant")}),
            json!({"prompt": "prompter: a\n\nassistant: b\n\nprompter: c", "chosen": "x", "rejected": "y"}),
        ] {
            let policy = if row.get("scores").is_some() { "{binarise: {by: best_and_worst}}" } else { "{}" };
            let reading = read(policy, "a.jsonl", row.to_string().as_bytes());
            assert_eq!(reading.counts.rejected, 0, "{row}");
            assert_eq!(texts(&reading.groups[0]), (prompt.clone(), vec!["x", "y"]), "{row}");
            assert_eq!(reading.counts.repaired["transcript"], 1, "{row}");
        }
    }

    #[test]
    fn a_prompt_that_ends_like_a_transcript_but_cannot_be_split_is_noted() {
        let prompt = "A chat with an assistant.\n\nHuman: a\n\nAssistant:";
        let row = json!({"prompt": prompt, "completion": "b", "label": true}).to_string();
        let reading = read("{}", "a.jsonl", row.as_bytes());
        assert_eq!(reading.groups[0].prompt, [Message::user(prompt)]);
        assert_eq!(reading.counts.noted["unsplit_transcript"], 1);
    }
}
