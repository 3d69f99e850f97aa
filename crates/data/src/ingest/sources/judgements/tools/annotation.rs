//! Judgements of annotation tools: answers of people to the questions of a project.

use serde_json::Value;

use super::{ANY, Judgement, list};
use crate::ingest::sources::json::Object;

/// Returns the questions of a record of Argilla 2. Dots are part of its column names.
pub(super) fn questions(record: &Object) -> impl Iterator<Item = &str> {
    record.0.keys().filter_map(|key| {
        let question = key.strip_suffix(".responses")?;
        let has = |suffix: &str| record.0.contains_key(&format!("{question}{suffix}"));
        (has(".responses.status") || has(".responses.users") || has(".suggestion")).then_some(question)
    })
}

/// Returns the answers of a record of Argilla 2. Suggestions are a model's.
pub(super) fn argilla(record: &Object) -> Vec<Judgement> {
    let pending = record.0.get("status").is_some_and(|status| status == "pending");
    let mut found = Vec::new();
    for question in questions(record) {
        let column = |suffix: &str| record.0.get(&format!("{question}{suffix}"));
        let answers = column(".responses").and_then(list).unwrap_or_default();
        let states = column(".responses.status").and_then(list).unwrap_or_default();
        for (index, answer) in answers.iter().enumerate() {
            let state = states.get(index).and_then(Value::as_str);
            found.push(answered(question, answer, state));
        }
        if answers.is_empty() && pending {
            found.push(Judgement::unanswered(question, "pending"));
        }
        if let Some(suggestion) = column(".suggestion").filter(|value| !value.is_null()) {
            found.push(Judgement::new(question, suggestion).by_machine(true));
        }
    }
    found
}

fn answered(question: &str, answer: &Value, state: Option<&str>) -> Judgement {
    match state {
        Some("draft") => Judgement::unanswered(question, "draft"),
        Some("discarded") => Judgement::unanswered(question, "discarded"),
        Some("pending") => Judgement::unanswered(question, "pending"),
        _ => Judgement::new(question, answer),
    }
}

/// Returns the questions of a record of Argilla 1: each has a suggestion in a column of its own.
pub(super) fn old_questions(record: &Object) -> impl Iterator<Item = &str> {
    let is_answer = |value: &Value| value.get("value").is_some() && value.get("status").is_some();
    record.0.iter().filter_map(move |(key, value)| {
        let answers = list(value)?;
        let told = record.0.contains_key(&format!("{key}-suggestion"))
            || record.0.contains_key(&format!("{key}-suggestion-metadata"));
        (answers.iter().all(is_answer) && (told || !answers.is_empty())).then_some(key.as_str())
    })
}

/// Returns the answers of a record of Argilla 1.
pub(super) fn old_argilla(record: &Object) -> Vec<Judgement> {
    let mut found = Vec::new();
    for question in old_questions(record) {
        let answers = record.0.get(question).and_then(list).unwrap_or_default();
        if answers.is_empty() {
            found.push(Judgement::unanswered(question, "pending"));
        }
        for answer in &answers {
            let value = answer.get("value").unwrap_or(&Value::Null);
            found.push(answered(question, value, answer.get("status").and_then(Value::as_str)));
        }
        let suggestion = record.0.get(&format!("{question}-suggestion"));
        if let Some(suggestion) = suggestion.filter(|value| !value.is_null()) {
            found.push(Judgement::new(question, suggestion).by_machine(true));
        }
    }
    found
}

/// Returns true for a task of Label Studio. Old exports call annotations completions.
pub(super) fn is_task(record: &Object) -> bool {
    record.0.get("data").is_some_and(Value::is_object)
        && ["annotations", "completions"].iter().any(|key| record.0.get(*key).is_some_and(Value::is_array))
}

/// Returns the answers of a task. Predictions are not among them.
pub(super) fn label_studio(record: &Object) -> Vec<Judgement> {
    let annotations = record.0.get("annotations").or_else(|| record.0.get("completions"));
    let mut found = Vec::new();
    for annotation in annotations.and_then(Value::as_array).into_iter().flatten() {
        if annotation.get("was_cancelled").and_then(Value::as_bool) == Some(true) {
            found.push(Judgement::unanswered(ANY, "skipped"));
            continue;
        }
        let results = annotation.get("result").and_then(Value::as_array);
        found.extend(results.into_iter().flatten().filter_map(result));
    }
    found
}

fn result(result: &Value) -> Option<Judgement> {
    let name = result.get("from_name").and_then(Value::as_str)?;
    let value = result.get("value")?;
    let chosen = |key: &str| value.get(key).and_then(Value::as_array);
    let value = match (value.get("selected"), chosen("choices"), value.get("rating")) {
        (Some(side), ..) => side.clone(),
        (_, Some(choices), _) => match choices.as_slice() {
            [only] => only.clone(),
            several => Value::Array(several.to_vec()),
        },
        (.., Some(rating)) => rating.clone(),
        _ => return None,
    };
    Some(Judgement::new(name, &value))
}
