//! Excerpts of text for messages.

/// Returns the first 80 characters of a text.
pub(crate) fn head(text: &str) -> &str {
    const MAX_RECORD_BYTES: usize = 80;
    text.char_indices().nth(MAX_RECORD_BYTES).map_or(text, |(end, _)| &text[..end])
}

/// Quotes the beginning of a text on one line.
pub(crate) fn excerpt(text: &str) -> String {
    let head = head(text);
    let dots = if head.len() < text.len() { "…" } else { "" };
    format!("{head:?}{dots}")
}
