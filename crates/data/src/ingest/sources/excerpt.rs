//! Excerpts of text for messages.

use serde_json::Value;

/// Returns the first 80 characters of a text.
pub(crate) fn head(text: &str) -> &str {
    const MAX_RECORD_BYTES: usize = 80;
    text.char_indices().nth(MAX_RECORD_BYTES).map_or(text, |(end, _)| &text[..end])
}

/// Shows a value: the beginning of a text, other values as JSON.
pub(crate) fn excerpt_value(value: &Value) -> String {
    value.as_str().map_or_else(|| head(&value.to_string()).to_owned(), excerpt)
}

/// Quotes the beginning of a text on one line.
pub(crate) fn excerpt(text: &str) -> String {
    let head = head(text);
    let dots = if head.len() < text.len() { "…" } else { "" };
    format!("{head:?}{dots}")
}
