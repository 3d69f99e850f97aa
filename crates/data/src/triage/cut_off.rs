//! Completions that end in the middle of a sentence.

/// Fewest words of the last line for it to be a sentence.
const SENTENCE_WORDS: usize = 8;

/// Returns whether a text breaks off: it has sentences that end, and its last line is a long one
/// that does not; or it opens a block of code and does not close it.
pub(super) fn is_cut_off(text: &str) -> bool {
    if !text.matches("```").count().is_multiple_of(2) {
        return true;
    }
    let text = text.trim_end();
    let last = text.lines().next_back().unwrap_or_default();
    let has_ends = text.contains(". ") || text.contains(".\n") || text.contains("! ") || text.contains("? ");
    let breaks = text.ends_with(|c: char| c.is_alphanumeric() || matches!(c, ',' | ';' | '(' | '-' | '–'));
    has_ends && breaks && last.split_whitespace().count() >= SENTENCE_WORDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_last_line_without_an_end_is_cut_off() {
        let start = "Rest for a week. Then walk every day, and stretch the leg in the";
        assert!(is_cut_off(start));
        assert!(!is_cut_off(&format!("{start} evening.")));
        assert!(!is_cut_off(&format!("{start} evening.\n\nGood luck")));
        // Who writes no full stops has not been cut off.
        assert!(!is_cut_off("just rest for a week and then walk every day"));
        assert!(is_cut_off("Try this:\n```\nlet x = 1;"));
        assert!(!is_cut_off("Try this:\n```\nlet x = 1;\n```"));
    }
}
