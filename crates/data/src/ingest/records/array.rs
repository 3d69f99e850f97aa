//! JSON arrays of objects, split into elements without loading the whole file.

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
}

/// Role of a byte in the array.
enum ByteClass {
    /// Part of an element.
    Inside,
    /// Comma after an element.
    Comma,
    /// Bracket that closes the array.
    Close,
}

impl Scanner {
    fn step(&mut self, byte: u8) -> ByteClass {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return ByteClass::Inside;
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

/// Calls `each` for every element. Text after the array, or an array without an end, is a flawed
/// record.
pub(super) fn read(text: &mut InputText, each: &mut RecordHandler<'_>) -> Result<(), DataError> {
    let opening = text.peek()?.iter().position(|byte| *byte == b'[').unwrap_or_default();
    text.consume(opening + 1);
    let mut elements = Elements { element: Vec::new(), too_long: false, number: 0, each };
    let mut scanner = Scanner::default();
    let mut closed = false;
    loop {
        let bytes = text.peek()?;
        let length = bytes.len();
        if length == 0 {
            break;
        }
        let mut done = 0;
        let mut start = 0;
        while !closed && done < length {
            let kind = scanner.step(bytes[done]);
            if !matches!(kind, ByteClass::Inside) {
                elements.extend(&bytes[start..done]);
                start = done + 1;
                closed = matches!(kind, ByteClass::Close);
                elements.end(!closed)?;
            }
            done += 1;
        }
        elements.extend(&bytes[start..length]);
        text.consume(length);
        text.records = elements.number;
    }
    match (closed, elements.is_blank()) {
        (true, true) => Ok(()),
        (true, false) => elements.flaw("text after the end of the array"),
        (false, _) => elements.flaw("the array has no closing bracket; the file may be truncated"),
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

    fn flaw(&mut self, detail: &str) -> Result<(), DataError> {
        (self.each)(self.number + 1, Err(Flaw { reason: RejectReason::NotJson, detail: detail.to_owned() }))
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
    fn a_cut_array_and_text_after_it_are_flaws() {
        for (text, sound) in [("[{\"a\": 1}, {\"b", 1), ("[{\"a\": 1}] {\"b\": 2}", 1), ("[", 0)] {
            let (elements, _) = records("a.json", text.as_bytes()).unwrap();
            assert_eq!(elements.len(), sound + 1, "{text}");
            assert_eq!(elements[sound].1.as_ref().unwrap_err().reason, RejectReason::NotJson);
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
