//! CSV and TSV tables with a header line. A record becomes an object of strings.

use std::{
    cell::Cell,
    io::{self, Read},
    rc::Rc,
};

use crate::{
    DataError,
    ingest::{
        raw::{Flaw, RejectReason},
        records::{MAX_RECORD_BYTES, RecordHandler, text::InputText},
    },
};

/// Calls `each` for every record.
pub(super) fn read(
    text: &mut InputText,
    delimiter: u8,
    each: &mut RecordHandler<'_>,
) -> Result<(), DataError> {
    let path = text.path().to_owned();
    // The parser stops between the CR and the LF after a record, so its line number lags by one.
    let behind =
        u64::from(text.peek()?.windows(2).find(|two| two[1] == b'\n').is_some_and(|two| two[0] == b'\r'));
    let left = Rc::new(Cell::new(MAX_RECORD_BYTES));
    let mut reader = ::csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .from_reader(LimitedText { text, left: Rc::clone(&left) });
    let fail = |message: String| DataError::Table { file: path.clone(), message };
    let header = reader.byte_headers().map_err(|error| fail(error.to_string()))?.clone();
    let names: Vec<String> =
        header.iter().map(|name| String::from_utf8_lossy(name.trim_ascii()).into_owned()).collect();
    if let Some(name) = (1..names.len()).find_map(|n| names[n..].iter().find(|name| **name == names[n - 1])) {
        return Err(fail(format!("the header has the column `{name}` twice; rename one of them")));
    }
    let mut record = ::csv::ByteRecord::new();
    loop {
        // The reader's read-ahead counts as well, hence the allowance of 128 KiB.
        left.set(MAX_RECORD_BYTES + (1 << 17));
        let line = |record: &::csv::ByteRecord| {
            (record.position().map_or(0, ::csv::Position::line) + behind).try_into().unwrap_or(usize::MAX)
        };
        match reader.read_byte_record(&mut record) {
            Ok(false) => return Ok(()),
            Ok(true) => match object(&names, &record) {
                Ok(object) => each(line(&record), Ok(&object))?,
                Err(flaw) => each(line(&record), Err(flaw))?,
            },
            Err(error) => match error.kind() {
                ::csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                    let detail = format!("{len} fields where the header has {expected_len}");
                    each(line(&record), Err(Flaw { reason: RejectReason::UnevenRow, detail }))?;
                }
                _ if left.get() == 0 => {
                    let line = reader.position().line();
                    return Err(fail(format!(
                        "the record before line {line} is longer than {} MiB; check for an unterminated quote",
                        MAX_RECORD_BYTES >> 20
                    )));
                }
                ::csv::ErrorKind::Io(_) => {
                    let message = error.to_string();
                    return Err(match error.into_kind() {
                        ::csv::ErrorKind::Io(source) => reader.into_inner().text.explain(source),
                        _ => fail(message),
                    });
                }
                _ => return Err(fail(error.to_string())),
            },
        }
    }
}

fn object(names: &[String], record: &::csv::ByteRecord) -> Result<Vec<u8>, Flaw> {
    let mut object = serde_json::Map::new();
    for (name, value) in names.iter().zip(record) {
        let value = std::str::from_utf8(value).map_err(|error| Flaw {
            reason: RejectReason::NotUtf8,
            detail: format!("`{name}` has invalid UTF-8 after {} bytes", error.valid_up_to()),
        })?;
        object.insert(name.clone(), value.into());
    }
    serde_json::to_vec(&object)
        .map_err(|error| Flaw { reason: RejectReason::NotJson, detail: error.to_string() })
}

/// Reader that limits the bytes read until the next record starts.
struct LimitedText<'a> {
    text: &'a mut InputText,
    left: Rc<Cell<usize>>,
}

impl Read for LimitedText<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left.get() == 0 {
            return Err(io::Error::other("the record is too long"));
        }
        let read = self.text.read(buffer)?;
        self.left.set(self.left.get().saturating_sub(read));
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::records::tests::{records, sound};

    #[test]
    fn quotes_line_breaks_and_other_delimiters_are_read() {
        let text = "prompt,completion\r\n\"a \"\"b\"\"\n c\",\"d, e\"\r\nf,\r\n\r\n";
        let expected = [
            (2, r#"{"prompt":"a \"b\"\n c","completion":"d, e"}"#.to_owned()),
            (4, r#"{"prompt":"f","completion":""}"#.to_owned()),
        ];
        assert_eq!(sound("a.csv", text), expected);
        assert_eq!(sound("a.tsv", "a\tb\n1,5\t2\n"), [(2, r#"{"a":"1,5","b":"2"}"#.to_owned())]);
        assert!(sound("a.csv", "").is_empty());
    }

    #[test]
    fn uneven_and_undecodable_records_are_flaws_and_doubled_columns_an_error() {
        let (rows, _) = records("a.csv", b"a,b\n1\n\xff,2\n3,4\n").unwrap();
        let reasons: Vec<_> =
            rows.iter().map(|(line, row)| (*line, row.as_ref().err().map(|f| f.reason))).collect();
        assert_eq!(
            reasons,
            [(2, Some(RejectReason::UnevenRow)), (3, Some(RejectReason::NotUtf8)), (4, None)]
        );
        let error = records("a.csv", b"a,b,a\n").unwrap_err().to_string();
        assert!(error.contains("column `a` twice"), "{error}");
    }

    #[test]
    fn a_quote_that_is_not_closed_does_not_fill_the_memory() {
        let mut text = b"a,b\n1,2\n\"".to_vec();
        text.resize(3 * MAX_RECORD_BYTES, b'x');
        let error = records("a.csv", &text).unwrap_err().to_string();
        assert!(error.contains("check for an unterminated quote"), "{error}");
    }
}
