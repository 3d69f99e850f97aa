//! Python literals as JSON values: what `str()` of a list of dictionaries gives, as pandas writes
//! to CSV.
//!
//! Besides lists and dictionaries this covers NumPy's notation, in which the items of an array
//! have no commas and the whole may be in `array(…, dtype=object)`.

use serde_json::{Map, Number, Value};

/// Deepest nesting that is parsed.
const MAX_DEPTH: usize = 64;

/// Parses a text that is one literal; None if it is anything else.
pub(crate) fn parse(text: &str) -> Option<Value> {
    let mut parser = Parser { rest: text };
    let value = parser.value(0)?;
    parser.skip_space();
    parser.rest.is_empty().then_some(value)
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Skips white space and then `token`, if it comes next.
    fn take(&mut self, token: &str) -> bool {
        self.skip_space();
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        if self.take("[") {
            return self.items("]", depth).map(Value::Array);
        }
        if self.take("(") {
            return self.items(")", depth).map(Value::Array);
        }
        if self.take("{") {
            return self.entries(depth).map(Value::Object);
        }
        if self.take("array(") {
            return self.array(depth);
        }
        for (word, value) in [
            ("None", Value::Null),
            ("nan", Value::Null),
            ("True", Value::Bool(true)),
            ("False", Value::Bool(false)),
        ] {
            if self.take(word) {
                return Some(value);
            }
        }
        if self.rest.starts_with(['\'', '"']) { self.string().map(Value::String) } else { self.number() }
    }

    /// Parses items up to `close`. The comma between two of them may be missing.
    fn items(&mut self, close: &str, depth: usize) -> Option<Vec<Value>> {
        let mut items = Vec::new();
        while !self.take(close) {
            items.push(self.value(depth + 1)?);
            self.take(",");
        }
        Some(items)
    }

    fn entries(&mut self, depth: usize) -> Option<Map<String, Value>> {
        let mut entries = Map::new();
        while !self.take("}") {
            self.skip_space();
            let key = self.string()?;
            if !self.take(":") || entries.contains_key(&key) {
                return None;
            }
            entries.insert(key, self.value(depth + 1)?);
            if !self.take(",") && !self.rest.starts_with('}') {
                return None;
            }
        }
        Some(entries)
    }

    /// Parses the rest of `array(items, dtype=object)`.
    fn array(&mut self, depth: usize) -> Option<Value> {
        let items = self.value(depth + 1)?;
        if self.take(",") {
            let close = self.rest.find(')')?;
            self.rest = &self.rest[close..];
        }
        self.take(")").then_some(items)
    }

    fn number(&mut self) -> Option<Value> {
        let end = self.rest.find(|letter: char| !matches!(letter, '0'..='9' | '+' | '-' | '.' | 'e' | 'E'));
        let (text, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        let whole = text.parse::<i64>().ok().map(Number::from);
        whole.or_else(|| Number::from_f64(text.parse().ok()?)).map(Value::Number)
    }

    fn string(&mut self) -> Option<String> {
        let quote = self.rest.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
        let mut letters = self.rest[1..].chars();
        let mut text = String::new();
        loop {
            match letters.next()? {
                letter if letter == quote => break,
                '\\' => push_escaped(&mut letters, &mut text)?,
                letter => text.push(letter),
            }
        }
        self.rest = letters.as_str();
        Some(text)
    }
}

/// Adds the letter that stands after a backslash; none for a line break.
fn push_escaped(letters: &mut std::str::Chars<'_>, text: &mut String) -> Option<()> {
    let digits = match letters.next()? {
        '\n' => return Some(()),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        letter => {
            text.push(match letter {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                '\\' | '\'' | '"' => letter,
                _ => return None,
            });
            return Some(());
        }
    };
    let (code, rest) = letters.as_str().split_at_checked(digits)?;
    *letters = rest.chars();
    text.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?);
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_python_and_numpy_print_is_read() {
        let turn = json!({"role": "user", "content": "it's \"so\"\n"});
        for text in [
            r#"[{'role': 'user', 'content': 'it\'s "so"\n'}]"#,
            r#"({"role": 'user', 'content': "it's \"so\"\x0a"},)"#,
            r#"array([{'role': 'user', 'content': 'it\'s "so"\n'}], dtype=object)"#,
        ] {
            assert_eq!(parse(text), Some(json!([turn])), "{text}");
        }
        let numpy = "[{'role': 'user', 'content': 'a'}\n {'role': 'assistant', 'content': 'b'}]";
        assert_eq!(parse(numpy).unwrap().as_array().unwrap().len(), 2);
        assert_eq!(
            parse("[1, -2.5, None, True, nan, '\\u00e9']"),
            Some(json!([1, -2.5, null, true, null, "é"]))
        );
    }

    #[test]
    fn what_is_no_literal_is_not_parsed() {
        let deep = "[".repeat(100_000);
        for text in
            ["", "[", "['a", "[a]", "{'a'}", "{'a': 1, 'a': 2}", "['a'] b", "['\\q']", "{1: 2}", &deep]
        {
            assert_eq!(parse(text), None, "{text:.20}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_not(text in "[\\[\\]{}()'\"\\\\,: xu0aé]{0,30}") {
            let _ = parse(&text);
        }
    }
}
