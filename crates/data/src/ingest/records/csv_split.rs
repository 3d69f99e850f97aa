//! Delimited text, split into records and fields as RFC 4180 describes it.
//!
//! A field that begins with a quote ends with the next one that is not doubled; a delimiter or the
//! end of the line must follow. Quotes elsewhere in a field are plain text.

/// Splitter of delimited text, which may come in portions.
#[derive(Debug)]
pub(super) struct Splitter {
    delimiter: u8,
    /// True if quotes delimit fields.
    quoted: bool,
    state: SplitState,
    /// Line of the next byte, from 1.
    line: usize,
    /// True if the previous byte was a carriage return that ended a line.
    after_return: bool,
}

/// State of the splitter within a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SplitState {
    /// Before the first byte of a field.
    FieldStart,
    Plain,
    /// Within quotes that were opened on this line.
    Quoted {
        opened: usize,
    },
    /// After a quote within quotes: the end of the field, or half of a doubled quote.
    AfterQuote {
        opened: usize,
    },
}

/// Fields of a record, one after the other.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Line of the record's first byte, from 1.
    pub(super) line: usize,
    /// Lines that the record spans.
    pub(super) lines: usize,
    /// True if a field was quoted.
    pub(super) quoted: bool,
}

/// Result of splitting a portion.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Split {
    /// The record goes on in the next portion.
    Unfinished,
    Record,
    /// Text after a closing quote, whose field was opened on this line.
    TextAfterQuote {
        opened: usize,
    },
}

impl Fields {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.bytes.get(start..*end).unwrap_or_default())
    }

    /// Returns true for a line without any byte.
    pub(super) fn is_blank(&self) -> bool {
        self.len() == 1 && self.bytes.is_empty() && !self.quoted
    }

    fn clear(&mut self, line: usize) {
        self.bytes.clear();
        self.ends.clear();
        (self.line, self.lines, self.quoted) = (line, 1, false);
    }
}

impl Splitter {
    pub(super) fn new(delimiter: u8, quoted: bool) -> Self {
        Self { delimiter, quoted, state: SplitState::FieldStart, line: 1, after_return: false }
    }

    /// Starts at another line than the first.
    pub(super) fn at_line(self, line: usize) -> Self {
        Self { line, ..self }
    }

    /// Returns the line of the next byte.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// Starts a record in `fields`.
    pub(super) fn start(&mut self, fields: &mut Fields) {
        fields.clear(self.line);
        self.state = SplitState::FieldStart;
    }

    /// Adds `bytes` to the record, up to its end. Returns the number of bytes used.
    pub(super) fn split(&mut self, bytes: &[u8], fields: &mut Fields) -> (usize, Split) {
        let mut at = 0;
        if self.after_return && !bytes.is_empty() {
            self.after_return = false;
            at += usize::from(bytes[0] == b'\n');
        }
        while let Some(byte) = bytes.get(at).copied() {
            at += 1;
            match self.state {
                SplitState::Quoted { opened } => {
                    if byte == b'"' {
                        self.state = SplitState::AfterQuote { opened };
                        continue;
                    }
                    let rest = &bytes[at - 1..];
                    let length = rest.iter().position(|byte| *byte == b'"').unwrap_or(rest.len());
                    let breaks = rest[..length].split(|byte| *byte == b'\n').count() - 1;
                    self.line += breaks;
                    fields.lines += breaks;
                    fields.bytes.extend_from_slice(&rest[..length]);
                    at += length - 1;
                }
                SplitState::AfterQuote { opened } if byte == b'"' => {
                    fields.bytes.push(b'"');
                    self.state = SplitState::Quoted { opened };
                }
                SplitState::FieldStart if byte == b'"' && self.quoted => {
                    fields.quoted = true;
                    self.state = SplitState::Quoted { opened: self.line };
                }
                _ if byte == self.delimiter => {
                    fields.ends.push(fields.bytes.len());
                    self.state = SplitState::FieldStart;
                }
                _ if byte == b'\n' || byte == b'\r' => {
                    fields.ends.push(fields.bytes.len());
                    self.line += 1;
                    self.after_return = byte == b'\r';
                    return (at, Split::Record);
                }
                SplitState::AfterQuote { opened } => return (at, Split::TextAfterQuote { opened }),
                SplitState::FieldStart | SplitState::Plain => {
                    let rest = &bytes[at - 1..];
                    let ends = |byte: &u8| *byte == self.delimiter || *byte == b'\n' || *byte == b'\r';
                    let length = rest.iter().position(ends).unwrap_or(rest.len());
                    fields.bytes.extend_from_slice(&rest[..length]);
                    self.state = SplitState::Plain;
                    at += length - 1;
                }
            }
        }
        (at, Split::Unfinished)
    }

    /// Ends the record at the end of the text. Returns the line of a quote that is still open.
    pub(super) fn finish(&mut self, fields: &mut Fields) -> Result<(), usize> {
        if let SplitState::Quoted { opened } = self.state {
            return Err(opened);
        }
        fields.ends.push(fields.bytes.len());
        Ok(())
    }
}

/// Returns the delimiter of a table by its first lines: of those that split the header, the one by
/// which most of the next lines have as many fields, then the one with most fields. `usual` comes
/// first among equals, and is the answer if nothing splits the header.
pub(super) fn detect_delimiter(start: &[u8], usual: u8, quoted: bool) -> u8 {
    /// Records looked at.
    const RECORDS: usize = 20;
    let mut best = (usual, (0, 1));
    for delimiter in [usual, b',', b';', b'\t', b'|'] {
        let (mut splitter, mut fields) = (Splitter::new(delimiter, quoted), Fields::default());
        let (mut rest, mut counts) = (start, Vec::new());
        while counts.len() < RECORDS {
            splitter.start(&mut fields);
            let (used, split) = splitter.split(rest, &mut fields);
            rest = rest.get(used..).unwrap_or_default();
            match split {
                Split::Record if fields.is_blank() => {}
                Split::Record => counts.push(fields.len()),
                Split::Unfinished if counts.is_empty() && splitter.finish(&mut fields).is_ok() => {
                    counts.push(fields.len());
                    break;
                }
                _ => break,
            }
        }
        let header = counts.first().copied().unwrap_or(1);
        let even = counts.iter().filter(|count| **count == header).count();
        if header > 1 && (even, header) > best.1 {
            best = (delimiter, (even, header));
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Splits a text that comes in portions of this length.
    fn split(
        text: &str,
        delimiter: u8,
        quoted: bool,
        portion: usize,
    ) -> Result<Vec<(usize, Vec<String>)>, usize> {
        let (mut splitter, mut fields) = (Splitter::new(delimiter, quoted), Fields::default());
        let mut records = Vec::new();
        let mut record = |fields: &Fields| {
            let texts = fields.iter().map(|field| String::from_utf8_lossy(field).into_owned()).collect();
            records.push((fields.line, texts));
        };
        splitter.start(&mut fields);
        for portion in text.as_bytes().chunks(portion) {
            let mut rest = portion;
            while !rest.is_empty() {
                let (used, split) = splitter.split(rest, &mut fields);
                rest = &rest[used..];
                match split {
                    Split::Unfinished => {}
                    Split::TextAfterQuote { opened } => return Err(opened),
                    Split::Record => {
                        record(&fields);
                        splitter.start(&mut fields);
                    }
                }
            }
        }
        splitter.finish(&mut fields)?;
        if !fields.is_blank() {
            record(&fields);
        }
        Ok(records)
    }

    #[test]
    fn delimiters_are_told_by_the_header_and_the_lines_below_it() {
        for (text, usual, delimiter) in [
            ("a,b,c\n1,2,3\n", b',', b','),
            ("a;b;c\n1, or 2;2,5;3\n", b',', b';'),
            ("a\tb\n1,5\t2\n", b',', b'\t'),
            ("a|b|c", b',', b'|'),
            ("\"a;b\",c\n1;2;3,4\n", b',', b','),
            ("prompt\nhow, and why?\n", b',', b','),
            ("a,b\n1,2\n", b'\t', b','),
            ("q (yes; no),label\nx,1\ny,0\n", b',', b','),
            ("", b',', b','),
        ] {
            assert_eq!(detect_delimiter(text.as_bytes(), usual, usual == b','), delimiter, "{text:?}");
        }
    }

    #[test]
    fn faults_of_quotes_are_found_on_their_lines() {
        for portion in [1, 3, 100] {
            assert_eq!(split("a,b\n1,\"2\n3,4\n", b',', true, portion), Err(2));
            assert_eq!(split("a,b\n1,\"2\n3,\"4\"\n", b',', true, portion), Err(2));
            assert_eq!(split("a,b\r\n\r\n1,\"2\" \n", b',', true, portion), Err(3));
            let plain = split("a\t\"b\n\"c\"\t5\" wide", b'\t', false, portion).unwrap();
            assert_eq!(plain[1], (2, vec!["\"c\"".to_owned(), "5\" wide".to_owned()]));
        }
    }

    proptest! {
        #[test]
        fn what_another_writer_writes_is_read_back(
            table in proptest::collection::vec(proptest::collection::vec("[a\",;\n é]{0,6}", 3), 1..5),
            portion in 1usize..20,
            delimiter in proptest::sample::select(b",;\t".to_vec()),
            carriage_returns: bool,
        ) {
            let end = if carriage_returns { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
            let mut writer =
                csv::WriterBuilder::new().delimiter(delimiter).terminator(end).from_writer(Vec::new());
            for fields in &table {
                writer.write_record(fields).unwrap();
            }
            let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            let read = split(&text, delimiter, true, portion).unwrap();
            let texts: Vec<Vec<String>> = read.into_iter().map(|(_, fields)| fields).collect();
            prop_assert_eq!(texts, table);
        }
    }
}
