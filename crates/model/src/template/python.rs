//! Python's text of values: `json.dumps` for `tojson`, and `str` for what a template prints.

use std::fmt::Write;

use minijinja::{
    Error, ErrorKind, Value,
    value::{Kwargs, Tuple, ValueKind},
};

/// Depth of nested values; deeper ones are an error.
const MAX_DEPTH: usize = 100;

/// Bytes of one value's text. Values may share parts, so their text can be much longer than they
/// are.
const MAX_BYTES: usize = 4 << 20;

/// The filter `tojson` of transformers, with the options of `json.dumps`.
#[expect(clippy::needless_pass_by_value, reason = "minijinja passes the arguments of filters by value")]
pub(super) fn tojson(
    value: &Value,
    ensure_ascii: Option<Value>,
    indent: Option<Value>,
    separators: Option<Value>,
    options: Kwargs,
) -> Result<Value, Error> {
    let option = |given: Option<Value>, name: &str| -> Result<Option<Value>, Error> {
        let named: Option<Value> = options.get(name)?;
        Ok(given.or(named).filter(|value| !value.is_none() && !value.is_undefined()))
    };
    let ensure_ascii = option(ensure_ascii, "ensure_ascii")?.is_some_and(|value| value.is_true());
    let sort_keys = option(None, "sort_keys")?.is_some_and(|value| value.is_true());
    let indent = match option(indent, "indent")? {
        None => None,
        Some(value) => match (value.as_str(), value.as_usize()) {
            (Some(text), _) => Some(text.to_owned()),
            (None, Some(spaces)) => Some(" ".repeat(spaces.min(MAX_DEPTH))),
            (None, None) => Some(if value.is_true() { " ".to_owned() } else { String::new() }),
        },
    };
    let (comma, colon) = match option(separators, "separators")? {
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
        Some(pair) => {
            let text = |index| -> Result<String, Error> {
                Ok(pair.get_item_by_index(index)?.as_str().unwrap_or_default().to_owned())
            };
            (text(0)?, text(1)?)
        }
    };
    options.assert_all_used()?;
    let style = Style::Json { ensure_ascii, indent, comma, colon, sort_keys };
    Ok(Value::from_safe_string(Writer { style, text: String::new() }.finish(value)?))
}

/// Returns the text that Python's `str` gives.
pub(super) fn str(value: &Value) -> Result<String, Error> {
    match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Writer { style: Style::Repr, text: String::new() }.finish(value),
    }
}

enum Style {
    Json {
        ensure_ascii: bool,
        indent: Option<String>,
        comma: String,
        colon: String,
        sort_keys: bool,
    },
    /// Python's `repr`.
    Repr,
}

struct Writer {
    style: Style,
    text: String,
}

fn fail(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

impl Writer {
    fn finish(mut self, value: &Value) -> Result<String, Error> {
        self.write(value, 0)?;
        Ok(self.text)
    }

    fn is_json(&self) -> bool {
        matches!(self.style, Style::Json { .. })
    }

    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH || self.text.len() > MAX_BYTES {
            return Err(Error::new(
                ErrorKind::WriteFailure,
                "a value is nested too deep or its text is too long",
            ));
        }
        let json = self.is_json();
        match value.kind() {
            ValueKind::None => self.text.push_str(if json { "null" } else { "None" }),
            ValueKind::Undefined if json => {
                return Err(fail("Object of type Undefined is not JSON serializable"));
            }
            ValueKind::Undefined => {}
            ValueKind::Bool => self.text.push_str(match (value.is_true(), json) {
                (true, true) => "true",
                (false, true) => "false",
                (true, false) => "True",
                (false, false) => "False",
            }),
            ValueKind::Number => self.text.push_str(&number(value)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Map => self.map(value, depth)?,
            ValueKind::Seq | ValueKind::Iterable => self.sequence(value, depth)?,
            ValueKind::Invalid => {
                value.try_iter()?;
            }
            _ => write!(self.text, "{value}").map_err(|_| fail("a value cannot be printed"))?,
        }
        Ok(())
    }

    fn string(&mut self, text: &str) {
        match self.style {
            Style::Json { ensure_ascii, .. } => json_string(text, ensure_ascii, &mut self.text),
            Style::Repr => repr_string(text, &mut self.text),
        }
    }

    fn sequence(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let items = value.try_iter()?.checked().collect::<Result<Vec<_>, _>>()?;
        let is_tuple = !self.is_json() && value.downcast_object_ref::<Tuple>().is_some();
        self.text.push(if is_tuple { '(' } else { '[' });
        for (index, item) in items.iter().enumerate() {
            self.before_item(index, depth + 1);
            self.write(item, depth + 1)?;
        }
        if is_tuple && items.len() == 1 {
            self.text.push(',');
        }
        self.before_end(items.len(), depth);
        self.text.push(if is_tuple { ')' } else { ']' });
        Ok(())
    }

    fn map(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let mut keys = value.try_iter()?.checked().collect::<Result<Vec<_>, _>>()?;
        if matches!(self.style, Style::Json { sort_keys: true, .. }) {
            keys.sort();
        }
        self.text.push('{');
        for (index, key) in keys.iter().enumerate() {
            self.before_item(index, depth + 1);
            match (self.is_json(), key.kind()) {
                // Keys of JSON objects are strings.
                (true, ValueKind::Number | ValueKind::Bool | ValueKind::None) => {
                    self.text.push('"');
                    self.write(key, depth + 1)?;
                    self.text.push('"');
                }
                _ => self.write(key, depth + 1)?,
            }
            match &self.style {
                Style::Json { colon, .. } => self.text.push_str(colon),
                Style::Repr => self.text.push_str(": "),
            }
            self.write(&value.get_item(key)?, depth + 1)?;
        }
        self.before_end(keys.len(), depth);
        self.text.push('}');
        Ok(())
    }

    fn before_item(&mut self, index: usize, depth: usize) {
        match &self.style {
            Style::Repr if index > 0 => self.text.push_str(", "),
            Style::Repr => {}
            Style::Json { indent, comma, .. } => {
                if index > 0 {
                    self.text.push_str(comma);
                }
                if let Some(indent) = indent {
                    self.text.push('\n');
                    self.text.push_str(&indent.repeat(depth));
                }
            }
        }
    }

    fn before_end(&mut self, items: usize, depth: usize) {
        if let Style::Json { indent: Some(indent), .. } = &self.style
            && items > 0
        {
            self.text.push('\n');
            self.text.push_str(&indent.repeat(depth));
        }
    }
}

/// Writes a number as Python does: `1.0`, `1e-05`, `1e+16`.
fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    let Ok(float) = f64::try_from(value.clone()) else { return value.to_string() };
    let size = float.abs();
    if float.is_nan() {
        "NaN".to_owned()
    } else if float.is_infinite() {
        if float > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else if size == 0.0 || (1e-4..1e16).contains(&size) {
        format!("{float:?}")
    } else {
        let text = format!("{float:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        format!("{digits}e{sign}{exponent:0>2}")
    }
}

/// Writes a JSON string as `json.dumps` does.
fn json_string(text: &str, ensure_ascii: bool, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            character if character < ' ' || (ensure_ascii && character > '~') => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").unwrap_or_default();
                }
            }
            character => out.push(character),
        }
    }
    out.push('"');
}

/// Writes a string as Python's `repr` does.
fn repr_string(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            character if character == quote => {
                out.push('\\');
                out.push(character);
            }
            character if character.is_ascii_control() => {
                write!(out, "\\x{:02x}", character as u32).unwrap_or_default();
            }
            character => out.push(character),
        }
    }
    out.push(quote);
}
