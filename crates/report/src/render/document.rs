//! A JSON document as an indented table of keys and values.

use serde::Serialize;
use serde_json::Value;

use crate::format;

/// A JSON document as table rows and as text.
#[derive(Serialize)]
pub(crate) struct JsonDocument {
    rows: Vec<JsonRow>,
    json: String,
}

impl JsonDocument {
    /// Creates the view of a JSON value.
    pub(crate) fn new(value: &Value) -> Self {
        Self { rows: rows(value), json: format!("{value:#}") }
    }
}

/// A key at its depth, with its value unless that is a group of rows itself.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct JsonRow {
    depth: usize,
    key: String,
    value: Option<String>,
}

/// Maximum indentation; deeper levels are indented like this one.
const MAX_DEPTH: usize = 5;
/// Maximum number of list entries in the table; the JSON text has all.
const MAX_ITEMS: usize = 40;

/// Returns the rows of a document, in its own order.
fn rows(document: &Value) -> Vec<JsonRow> {
    let mut rows = Vec::new();
    match document {
        Value::Object(_) | Value::Array(_) => add_children(document, 0, &mut rows),
        scalar => rows.push(JsonRow { depth: 0, key: String::new(), value: Some(format::setting(scalar)) }),
    }
    rows
}

fn add_children(group: &Value, depth: usize, rows: &mut Vec<JsonRow>) {
    match group {
        Value::Object(entries) => {
            for (key, value) in entries {
                add(key.clone(), value, depth, rows);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().take(MAX_ITEMS).enumerate() {
                add((index + 1).to_string(), value, depth, rows);
            }
            if items.len() > MAX_ITEMS {
                let value = Some(format!("{} more", items.len() - MAX_ITEMS));
                rows.push(JsonRow { depth: depth.min(MAX_DEPTH), key: "…".to_owned(), value });
            }
        }
        _ => {}
    }
}

fn add(key: String, value: &Value, depth: usize, rows: &mut Vec<JsonRow>) {
    let shown = one_line(value);
    let group = shown.is_none();
    rows.push(JsonRow { depth: depth.min(MAX_DEPTH), key, value: shown });
    if group {
        add_children(value, depth + 1, rows);
    }
}

/// Returns a scalar, an empty group or a short list of scalars as one line.
fn one_line(value: &Value) -> Option<String> {
    match value {
        Value::Object(entries) => entries.is_empty().then(|| "none".to_owned()),
        Value::Array(items) if items.is_empty() => Some("none".to_owned()),
        Value::Array(items) => {
            let simple = |item: &Value| !item.is_object() && !item.is_array();
            let fits = items.len() <= MAX_ITEMS && items.iter().all(simple);
            fits.then(|| items.iter().map(format::setting).collect::<Vec<_>>().join(", "))
        }
        scalar => Some(format::setting(scalar)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_indent_and_lists_stay_on_a_line() {
        let document =
            serde_json::json!({"rows": 3, "dropped": {"empty": 1}, "splits": ["train", "test"], "x": [[1]]});
        let rows: Vec<_> = rows(&document)
            .into_iter()
            .map(|row| (row.depth, row.key, row.value.unwrap_or_default()))
            .collect();
        let row = |depth, key: &str, value: &str| (depth, key.to_owned(), value.to_owned());
        assert_eq!(
            rows,
            [
                row(0, "rows", "3"),
                row(0, "dropped", ""),
                row(1, "empty", "1"),
                row(0, "splits", "train, test"),
                row(0, "x", ""),
                row(1, "1", "1"),
            ]
        );
    }
}
