//! Any JSON document as the rows of an indented table.

use serde::Serialize;
use serde_json::Value;

use crate::text;

/// A row: a key at its depth, with its value if that is not itself a group of rows.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    depth: usize,
    key: String,
    value: Option<String>,
}

/// Deeper levels are drawn like this one.
const DEEPEST: usize = 5;
/// So many entries of a list are shown; the full document stands beside the table.
const LONGEST: usize = 40;

/// The rows of a document, in its own order.
pub(crate) fn rows(document: &Value) -> Vec<Row> {
    let mut rows = Vec::new();
    match document {
        Value::Object(_) | Value::Array(_) => add_children(document, 0, &mut rows),
        scalar => rows.push(Row { depth: 0, key: String::new(), value: Some(text::setting(scalar)) }),
    }
    rows
}

fn add_children(group: &Value, depth: usize, rows: &mut Vec<Row>) {
    match group {
        Value::Object(entries) => {
            for (key, value) in entries {
                add(key.clone(), value, depth, rows);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().take(LONGEST).enumerate() {
                add((index + 1).to_string(), value, depth, rows);
            }
            if items.len() > LONGEST {
                let value = Some(format!("{} more", items.len() - LONGEST));
                rows.push(Row { depth: depth.min(DEEPEST), key: "…".to_owned(), value });
            }
        }
        _ => {}
    }
}

fn add(key: String, value: &Value, depth: usize, rows: &mut Vec<Row>) {
    let shown = one_line(value);
    let group = shown.is_none();
    rows.push(Row { depth: depth.min(DEEPEST), key, value: shown });
    if group {
        add_children(value, depth + 1, rows);
    }
}

/// Scalars, empty groups and short lists of scalars fit on one line.
fn one_line(value: &Value) -> Option<String> {
    match value {
        Value::Object(entries) => entries.is_empty().then(|| "none".to_owned()),
        Value::Array(items) if items.is_empty() => Some("none".to_owned()),
        Value::Array(items) => {
            let simple = |item: &Value| !item.is_object() && !item.is_array();
            let fits = items.len() <= LONGEST && items.iter().all(simple);
            fits.then(|| items.iter().map(text::setting).collect::<Vec<_>>().join(", "))
        }
        scalar => Some(text::setting(scalar)),
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
