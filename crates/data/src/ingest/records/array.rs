//! JSON arrays of objects, split into elements without loading the whole file.
//!
//! A quote too many or too few is an error with its element: a reader that goes on takes the
//! elements up to the next quote for one string.

use serde::de::IgnoredAny;

use crate::{
    DataError,
    ingest::{
        raw::{Flaw, RejectReason},
        records::{MAX_RECORD_BYTES, RecordHandler, lines::too_long, text::InputText},
    },
};

/// State of the scanner within an array.
#[derive(Default)]
struct Scanner {
    /// Number of open brackets and braces within the element.
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// True between a string and what must follow it.
    after_string: bool,
}

/// Role of a byte in the array.
enum ByteClass {
    /// Part of an element.
    Inside,
    /// Comma after an element.
    Comma,
    /// Bracket that closes the array.
    Close,
    /// Text after a string that is neither a comma, a colon nor a bracket.
    Stray,
}

impl Scanner {
    fn step(&mut self, byte: u8) -> ByteClass {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => (self.in_string, self.after_string) = (false, true),
                _ => {}
            }
            return ByteClass::Inside;
        }
        if self.after_string && !byte.is_ascii_whitespace() {
            self.after_string = false;
            if !matches!(byte, b',' | b':' | b']' | b'}') {
                return ByteClass::Stray;
            }
        }
        match byte {
            b',' if self.depth == 0 => return ByteClass::Comma,
            b']' if self.depth == 0 => return ByteClass::Close,
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        ByteClass::Inside
    }
}

/// Calls `each` for every element. An array that is cut off ends with a flawed record.
pub(super) fn read(text: &mut InputText, each: &mut RecordHandler<'_>) -> Result<(), DataError> {
    let opening = text.peek()?.iter().position(|byte| *byte == b'[').unwrap_or_default();
    text.consume(opening + 1);
    let path = text.path().to_owned();
    let fail = |message: String| DataError::Table { file: path.clone(), message };
    let mut elements = Elements { element: Vec::new(), too_long: false, number: 0, each };
    let mut scanner = Scanner::default();
    let mut closed = false;
    loop {
        let bytes = text.peek()?;
        let length = bytes.len();
        if length == 0 {
            break;
        }
        let mut start = 0;
        for (index, byte) in bytes.iter().enumerate() {
            if closed {
                break;
            }
            let class = scanner.step(*byte);
            match class {
                ByteClass::Inside => {}
                ByteClass::Stray => {
                    return Err(fail(format!(
                        "element {} of the array has text right after a string; look for a quote that is not escaped",
                        elements.number + 1
                    )));
                }
                ByteClass::Comma | ByteClass::Close => {
                    elements.extend(&bytes[start..index]);
                    start = index + 1;
                    closed = matches!(class, ByteClass::Close);
                    elements.end(!closed)?;
                }
            }
        }
        elements.extend(&bytes[start..length]);
        text.consume(length);
        text.records = elements.number;
    }
    match (closed, elements.is_blank()) {
        (true, true) => Ok(()),
        (true, false) => Err(fail(format!(
            "text after the bracket that closes the array, behind element {}; remove the bracket or the text",
            elements.number
        ))),
        (false, _) if elements.is_cut() => elements.cut(),
        (false, _) => Err(fail(format!(
            "element {} of the array is not valid JSON, and all that follows belongs to it; look for a bracket that is \
             missing",
            elements.number + 1
        ))),
    }
}

/// Element being read, and the callback for finished ones.
struct Elements<'a, 'b> {
    element: Vec<u8>,
    too_long: bool,
    number: usize,
    each: &'a mut RecordHandler<'b>,
}

impl Elements<'_, '_> {
    fn extend(&mut self, bytes: &[u8]) {
        self.too_long |= self.element.len() + bytes.len() > MAX_RECORD_BYTES;
        if self.too_long {
            self.element.clear();
        } else {
            self.element.extend_from_slice(bytes);
        }
    }

    fn is_blank(&self) -> bool {
        !self.too_long && self.element.trim_ascii().is_empty()
    }

    /// Passes on the element. An empty element is a flaw before a comma, but not before the closing
    /// bracket.
    fn end(&mut self, comma: bool) -> Result<(), DataError> {
        if self.is_blank() && !comma {
            return Ok(());
        }
        self.number += 1;
        let record = if self.too_long { Err(too_long()) } else { Ok(self.element.trim_ascii()) };
        let result = (self.each)(self.number, record);
        self.element.clear();
        self.too_long = false;
        result
    }

    /// Returns true if the element is the beginning of a JSON value.
    fn is_cut(&self) -> bool {
        let value = serde_json::from_slice::<IgnoredAny>(&self.element);
        !self.too_long && value.map_or_else(|error| error.is_eof(), |_| true)
    }

    /// Passes on the element of an array that is cut off, as a flaw.
    fn cut(&mut self) -> Result<(), DataError> {
        let detail = "the array has no closing bracket; the file may be truncated".to_owned();
        (self.each)(self.number + 1, Err(Flaw { reason: RejectReason::NotJson, detail }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::records::tests::{records, sound};
    use proptest::prelude::*;

    #[test]
    fn elements_are_what_stands_between_the_commas() {
        let text = "\n [ {\"a\": \"],{\\\"\"},\n{\"b\": [1, [2]]}\n ] \n";
        let expected = [(1, "{\"a\": \"],{\\\"\"}".to_owned()), (2, "{\"b\": [1, [2]]}".to_owned())];
        assert_eq!(sound("a.json", text), expected);
        assert!(sound("a.json", "[]").is_empty());
    }

    #[test]
    fn a_cut_array_ends_with_a_flaw() {
        for (text, sound) in
            [("[{\"a\": 1}, {\"b", 1), ("[{\"a\": 1},\n", 1), ("[", 0), ("[{\"a\": \"x\\", 0)]
        {
            let (elements, _) = records("a.json", text.as_bytes()).unwrap();
            assert_eq!(elements.len(), sound + 1, "{text}");
            assert_eq!(elements[sound].1.as_ref().unwrap_err().reason, RejectReason::NotJson);
        }
    }

    #[test]
    fn damage_that_would_swallow_elements_is_an_error() {
        let rest = ", {\"a\": \"y\"}, {\"a\": \"z\"}]";
        for (first, message) in [
            ("{\"a\": \"x\"\"}", "element 1 of the array has text right after a string"),
            ("{\"a\": \"say \"hi\" x\"}", "element 1 of the array has text right after a string"),
            ("{\"a\": \"x}", "element 1 of the array has text right after a string"),
            ("{\"a\": \"x\"", "element 1 of the array is not valid JSON"),
            ("{\"a\": \"x\"}]", "text after the bracket that closes the array, behind element 1"),
        ] {
            let error = records("a.json", format!("[{first}{rest}").as_bytes()).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn an_element_longer_than_the_longest_is_rejected_and_the_next_one_read() {
        let text = format!("[\"{}\", 1]", "x".repeat(MAX_RECORD_BYTES));
        let (elements, _) = records("a.json", text.as_bytes()).unwrap();
        assert_eq!(elements, [(1, Err(too_long())), (2, Ok("1".to_owned()))]);
    }

    proptest! {
        #[test]
        fn any_array_is_taken_apart_as_a_json_parser_does(
            texts in proptest::collection::vec("[\\PC\"\\\\\\[\\]{},]{0,20}", 0..20),
            pretty: bool,
        ) {
            let values: Vec<_> = texts.iter().map(|text| serde_json::json!({"t": text, "n": [[1], {}]})).collect();
            let text = if pretty { serde_json::to_string_pretty(&values) } else { serde_json::to_string(&values) };
            let read: Vec<serde_json::Value> = sound("a.json", &text.unwrap())
                .iter()
                .map(|(_, element)| serde_json::from_str(element).unwrap())
                .collect();
            prop_assert_eq!(read, values);
        }
    }
}
