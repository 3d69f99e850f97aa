//! Quoting for shell command lines.

/// Quotes a word for a POSIX shell, if needed.
pub fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@,+%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Returns the command line of a program with these arguments.
pub fn command_line(program: &str, arguments: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let words = arguments.into_iter().map(|argument| word(argument.as_ref()));
    std::iter::once(program.to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_would_take_apart_is_quoted() {
        assert_eq!(word("train.beta=0.2"), "train.beta=0.2");
        assert_eq!(word("two words"), "'two words'");
        assert_eq!(word("it's"), r"'it'\''s'");
        assert_eq!(word(""), "''");
        assert_eq!(command_line("prospect", ["train", "a b"]), "prospect train 'a b'");
    }
}
