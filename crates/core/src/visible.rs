//! Text of unknown origin, escaped for display.

use std::{borrow::Cow, fmt::Write};

/// Escapes control characters (except line breaks and tabs) and characters that reorder or hide
/// text as `\u{…}`, so that a terminal or page shows them but doesn't obey them.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if hidden(character) {
            // Writing to a String cannot fail.
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

fn hidden(character: char) -> bool {
    let controls = character.is_control() && !matches!(character, '\n' | '\t');
    controls
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Puts an apostrophe before text that a spreadsheet would run as a formula: text that begins with
/// `=`, `+`, `-`, `@`, a tab or a carriage return, and is not a number.
pub fn spreadsheet_safe(text: &str) -> Cow<'_, str> {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) && text.parse::<f64>().is_err() {
        Cow::Owned(format!("'{text}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Truncates a text to `most` characters and states how many were cut.
pub fn clipped(text: &str, most: usize) -> Cow<'_, str> {
    let rest = text.chars().count().saturating_sub(most);
    if rest == 0 {
        return Cow::Borrowed(text);
    }
    let kept: String = text.chars().take(most).collect();
    Cow::Owned(format!("{kept}… ({rest} more characters)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        assert_eq!(visible("plain é\n\t"), "plain é\n\t");
        assert_eq!(visible("\u{1b}[31mred\u{202e}\r"), "\\u{1b}[31mred\\u{202e}\\u{d}");
    }

    #[test]
    fn a_spreadsheet_runs_no_text_as_a_formula() {
        for formula in ["=1+1", "+A1", "-2+3", "@SUM(A1)", "\t=1", "\r=1"] {
            assert_eq!(spreadsheet_safe(formula), format!("'{formula}"));
        }
        for harmless in ["", "text", "-4.5", "+1e-3", "-inf", "a=b"] {
            assert_eq!(spreadsheet_safe(harmless), harmless);
        }
    }

    #[test]
    fn long_text_says_how_much_is_left_out() {
        assert_eq!(clipped("éé", 2), "éé");
        assert_eq!(clipped("ééaa", 3), "ééa… (1 more characters)");
    }
}
