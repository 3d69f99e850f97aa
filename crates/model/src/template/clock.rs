//! `strftime_now`: the date that templates write.
//!
//! It is always 26 July 2024, the date that Llama 3.1's template falls back to. With today's date,
//! a run that resumes after midnight would train on other tokens.

use minijinja::{Error, ErrorKind};

/// Formats the fixed date as Python's `strftime` does in the C locale.
pub(super) fn strftime_now(format: &str) -> Result<String, Error> {
    let mut text = String::with_capacity(2 * format.len());
    let mut rest = format;
    while let Some((before, directive)) = rest.split_once('%') {
        text.push_str(before);
        // `%-d` is `%d` without padding.
        let (unpadded, directive) = match directive.strip_prefix('-') {
            Some(directive) => (true, directive),
            None => (false, directive),
        };
        let mut characters = directive.chars();
        let name = characters.next();
        let value = name.and_then(directive_value).ok_or_else(|| {
            let name = name.map(String::from).unwrap_or_default();
            Error::new(
                ErrorKind::InvalidOperation,
                format!("strftime_now: unknown directive `%{name}` in {format:?}"),
            )
        })?;
        let stripped = value.trim_start_matches('0');
        text.push_str(match (unpadded, stripped) {
            (false, _) => value,
            (true, "") => "0",
            (true, stripped) => stripped,
        });
        rest = characters.as_str();
    }
    text.push_str(rest);
    Ok(text)
}

fn directive_value(directive: char) -> Option<&'static str> {
    Some(match directive {
        'Y' => "2024",
        'y' => "24",
        'm' => "07",
        'd' | 'e' => "26",
        'B' => "July",
        'b' | 'h' => "Jul",
        'A' => "Friday",
        'a' => "Fri",
        'u' | 'w' => "5",
        'j' => "208",
        'H' | 'M' | 'S' => "00",
        'I' => "12",
        'p' => "AM",
        'f' => "000000",
        'F' => "2024-07-26",
        'D' | 'x' => "07/26/24",
        'T' | 'X' => "00:00:00",
        'R' => "00:00",
        'c' => "Fri Jul 26 00:00:00 2024",
        'Z' | 'z' => "",
        'n' => "\n",
        't' => "\t",
        '%' => "%",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_fixed() {
        for (format, expected) in [
            ("%d %b %Y", "26 Jul 2024"),
            ("%Y-%m-%d", "2024-07-26"),
            ("%A, %B %-d (%-m), %H:%M 100%%", "Friday, July 26 (7), 00:00 100%"),
            ("%-H", "0"),
            ("no directive", "no directive"),
        ] {
            assert_eq!(strftime_now(format).unwrap(), expected);
        }
        assert!(strftime_now("%Q").unwrap_err().to_string().contains("%Q"));
        assert!(strftime_now("%").is_err());
    }
}
