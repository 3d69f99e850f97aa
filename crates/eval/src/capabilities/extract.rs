//! Answers in generated texts, and their comparison with the right ones.

use std::sync::LazyLock;

use regex::Regex;

/// Marker that precedes the answer in GSM8K.
const MARKER: &str = "####";

/// A number, without its sign.
static NUMBER: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)").ok());

/// Finds the answer in a generated text.
#[derive(Debug, Clone, Default)]
pub struct Extractor {
    /// Pattern of the answer; None for numbers.
    pattern: Option<Regex>,
}

impl Extractor {
    /// Creates an extractor by a regular expression. The answer is the last match: its first group
    /// that took part, or all of it.
    ///
    /// # Errors
    /// The pattern is not a regular expression.
    pub fn new(pattern: &str) -> Result<Self, String> {
        Regex::new(pattern).map(|pattern| Self { pattern: Some(pattern) }).map_err(|error| error.to_string())
    }

    /// Returns the pattern; None for numbers.
    pub fn pattern(&self) -> Option<&str> {
        self.pattern.as_ref().map(Regex::as_str)
    }

    /// Returns the answer in a text: without a pattern, the number after `####`, or else the last
    /// number. None if there is none.
    pub(super) fn find(&self, text: &str) -> Option<String> {
        let Some(pattern) = &self.pattern else {
            return match text.split_once(MARKER) {
                Some((_, after)) => numbers(after).into_iter().next().or_else(|| numbers(text).pop()),
                None => numbers(text).pop(),
            };
        };
        let found = pattern.captures_iter(text).last()?;
        let group = found.iter().skip(1).flatten().next().or_else(|| found.get(0));
        group.map(|group| group.as_str().to_owned())
    }

    /// Returns true if the answer can be found where it is `right`.
    pub(super) fn can_find(&self, right: &str) -> bool {
        self.pattern.is_some() || numbers(right).iter().any(|number| normalised(number) == normalised(right))
    }
}

/// Returns the numbers in a text, each with its sign. A dash between two words or numbers is no
/// sign.
fn numbers(text: &str) -> Vec<String> {
    let Some(pattern) = NUMBER.as_ref() else { return Vec::new() };
    let number = |found: regex::Match<'_>| {
        let mut before = text[..found.start()].chars().rev();
        let is_dash = before.next().is_some_and(|letter| letter == '-' || letter == '−');
        let is_sign = is_dash && !before.next().is_some_and(char::is_alphanumeric);
        format!("{}{}", if is_sign { "-" } else { "" }, found.as_str())
    };
    pattern.find_iter(text).map(number).collect()
}

/// Returns a text up to the first stop text.
pub(super) fn before_stop<'t>(text: &'t str, stop: &[String]) -> &'t str {
    let ends = stop.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| text.find(stop.as_str()));
    ends.min().map_or(text, |end| &text[..end])
}

/// Returns the part of a right answer that is compared: what follows `####`, or all of it.
pub(super) fn right_text(answer: &str) -> &str {
    answer.rsplit_once(MARKER).map_or(answer, |(_, after)| after)
}

/// Returns an answer as it is compared: in lower case, without commas, dollar signs, white space
/// around it and a period at its end.
pub(super) fn normalised(answer: &str) -> String {
    let kept: String = answer.chars().filter(|letter| !matches!(letter, ',' | '$')).collect();
    let kept = kept.trim().to_lowercase();
    kept.strip_suffix('.').unwrap_or(&kept).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_after_the_marker_or_last() {
        let find = |text: &str| Extractor::default().find(text).map(|answer| normalised(&answer));
        for (text, answer) in [
            ("3 + 4 = 7\n#### 7\nand 9", Some("7")),
            ("It costs $1,250.50.", Some("1250.50")),
            ("Between 3-5 of them", Some("5")),
            ("The sum is -3", Some("-3")),
            ("minus −$4.", Some("-4")),
            ("#### none, so 6", Some("6")),
            ("8 #### nothing", Some("8")),
            ("half, .5", Some(".5")),
            ("no number", None),
        ] {
            assert_eq!(find(text).as_deref(), answer, "{text}");
        }
    }

    #[test]
    fn a_pattern_takes_its_last_match() {
        let find = |pattern: &str, text: &str| Extractor::new(pattern).unwrap().find(text);
        assert_eq!(find(r"is (\w+)", "It is red, no, it is Blue."), Some("Blue".to_owned()));
        assert_eq!(find(r"yes|no", "yes, no"), Some("no".to_owned()));
        assert_eq!(find(r"(a)|(b)", "a b"), Some("b".to_owned()));
        assert_eq!(find(r"(a)", "c"), None);
        assert!(Extractor::new("(").is_err());
    }

    #[test]
    fn right_answers_are_compared_without_their_derivation() {
        assert_eq!(normalised(right_text("Ten times 12.\n#### 1,200")), "1200");
        assert_eq!(normalised(right_text(" Paris. ")), "paris");
        assert_eq!(before_stop("a Question: b\n\nc", &["\n\n".to_owned(), "Question:".to_owned()]), "a ");
        assert_eq!(before_stop("a", &[String::new()]), "a");
        assert!(!Extractor::default().can_find("#1,200") && Extractor::default().can_find("-$1,200."));
        assert!(!Extractor::default().can_find("Paris") && Extractor::new("P.*").unwrap().can_find("Paris"));
    }
}
