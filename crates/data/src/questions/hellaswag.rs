//! Texts of HellaSwag as lm-evaluation-harness cleans them.

/// Removes artefacts of WikiHow: titles and other text in brackets, and double spaces.
pub(super) fn cleaned(text: &str) -> String {
    without_brackets(&text.trim().replace(" [title]", ". ")).replace("  ", " ")
}

/// Removes text in brackets, up to the first closing bracket on the same line.
fn without_brackets(text: &str) -> String {
    let (mut kept, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(start) = rest.find('[') {
        let (before, bracket) = rest.split_at(start);
        kept.push_str(before);
        let end = bracket.find([']', '\n']).filter(|end| bracket[*end..].starts_with(']'));
        rest = if let Some(end) = end {
            &bracket[end + 1..]
        } else {
            kept.push('[');
            &bracket[1..]
        };
    }
    kept.push_str(rest);
    kept
}

/// Returns a text with its first letter in upper case and all others in lower case, as Python's
/// `capitalize` does.
pub(super) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(letters.as_str().to_lowercase().chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_and_double_spaces_are_removed() {
        for (text, expected) in [
            (" [header] How to sit [title] Find a chair.", "How to sit. Find a chair."),
            ("a [b] c  d", "a c d"),
            ("a [b", "a [b"),
            ("a [b\n] c [d]", "a [b\n] c "),
            ("[x[y]z", "z"),
        ] {
            let found = cleaned(text);
            assert_eq!(found.trim_start(), expected, "{text}");
        }
        assert_eq!(capitalised("tHE Dog"), "The dog");
        assert_eq!(capitalised(""), "");
    }
}
