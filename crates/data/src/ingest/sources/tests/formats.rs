//! Small files in the formats of feedback tools and public sets, with the counts that they give.

#![expect(clippy::needless_pass_by_value, reason = "fixtures take the values that `json!` makes")]

use serde_json::{Value, json};

use super::{Collected, read};

mod annotation_tools;
mod chat_tools;
mod comparison_sets;
mod containers;
mod pair_sets;
mod public_sets;
mod tracing_tools;

/// Numbers that a file gives.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    /// Binary rows: labels, and both sides of pairs without labels.
    pub(super) up: usize,
    pub(super) down: usize,
    pub(super) pairs: usize,
    /// Reasons of rejected and filtered rows with their counts, sorted.
    pub(super) others: Vec<(String, u64)>,
}

/// Expected numbers; `others` is written as `"reason reason"`.
pub(super) fn numbers(up: usize, down: usize, pairs: usize, others: &str) -> Numbers {
    let mut counted: Vec<(String, u64)> = Vec::new();
    let mut words: Vec<&str> = others.split_whitespace().collect();
    words.sort_unstable();
    for word in words {
        match counted.last_mut() {
            Some((last, times)) if last == word => *times += 1,
            _ => counted.push((word.to_owned(), 1)),
        }
    }
    Numbers { up, down, pairs, others: counted }
}

pub(super) fn count(read: &Collected) -> Numbers {
    let mut found = Numbers { up: 0, down: 0, pairs: 0, others: Vec::new() };
    for group in &read.groups {
        for completion in &group.completions {
            match completion.label {
                Some(true) => found.up += 1,
                Some(false) => found.down += 1,
                None => {}
            }
        }
        let unlabelled = |index: usize| usize::from(group.completions[index].label.is_none());
        for (chosen, rejected) in &group.pairs {
            found.pairs += 1;
            found.up += unlabelled(*chosen);
            found.down += unlabelled(*rejected);
        }
    }
    let counts = &read.counts;
    let others = counts.rejected_by_reason.iter().chain(&counts.filtered);
    found.others = others.map(|(reason, times)| (reason.clone(), *times)).collect();
    found.others.sort();
    found
}

/// Reads records as JSON Lines.
pub(super) fn lines(source: &str, records: &[Value]) -> Collected {
    let lines: Vec<String> = records.iter().map(Value::to_string).collect();
    read(source, "export.jsonl", lines.join("\n").as_bytes())
}

pub(super) fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

pub(super) fn assistant(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

/// Returns the texts of the prompt, and those of the completions.
pub(super) fn texts(group: &crate::ingest::raw::RawGroup) -> (Vec<&str>, Vec<&str>) {
    let prompt = group.prompt.iter().map(|turn| turn.content.as_str()).collect();
    (prompt, group.completions.iter().map(|side| side.messages[0].content.as_str()).collect())
}
