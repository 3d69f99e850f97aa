//! Tables of delimited text with a header line (CSV, TSV). A record becomes an object of strings.
//!
//! The delimiter is detected. Damaged quoting is an error with its line: a reader that goes on
//! takes the rows up to the next quote for one field.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    DataError,
    ingest::{
        raw::{Flaw, RejectReason},
        records::{
            FileNotes, MAX_RECORD_BYTES, RecordHandler,
            csv_split::{Fields, Split, Splitter, detect_delimiter},
            text::InputText,
        },
    },
};

/// Format of CSV and TSV files, where detection is wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CsvFormat {
    /// Delimiter between fields; detected from the first lines if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delimiter: Option<Delimiter>,
    /// Meaning of quotes. Default: `minimal`, for `.tsv` files `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) quoting: Option<Quoting>,
}

/// Delimiter between the fields of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Delimiter {
    /// Comma.
    #[serde(rename = ",")]
    Comma,
    /// Semicolon, as Excel writes in most of Europe.
    #[serde(rename = ";")]
    Semicolon,
    /// Tab.
    #[serde(rename = "tab", alias = "\t")]
    Tab,
    /// Vertical bar.
    #[serde(rename = "|")]
    Bar,
}

/// Meaning of quotes in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Quoting {
    /// A field may be quoted; quotes within are doubled.
    Minimal,
    /// Quotes are plain text; a field holds neither delimiters nor line breaks.
    None,
}

impl Delimiter {
    const ALL: [Self; 4] = [Self::Comma, Self::Semicolon, Self::Tab, Self::Bar];

    fn byte(self) -> u8 {
        match self {
            Self::Comma => b',',
            Self::Semicolon => b';',
            Self::Tab => b'\t',
            Self::Bar => b'|',
        }
    }

    /// Returns the name under which files with this delimiter are counted.
    fn remark(self) -> &'static str {
        match self {
            Self::Comma => "comma_delimiter",
            Self::Semicolon => "semicolon_delimiter",
            Self::Tab => "tab_delimiter",
            Self::Bar => "bar_delimiter",
        }
    }
}

/// Calls `each` for every record. `is_tsv` selects the usual delimiter and quoting.
pub(super) fn read(
    text: &mut InputText,
    format: CsvFormat,
    is_tsv: bool,
    notes: &mut FileNotes,
    each: &mut RecordHandler<'_>,
) -> Result<(), DataError> {
    let usual = if is_tsv { Delimiter::Tab } else { Delimiter::Comma };
    let named = excel_delimiter(text)?;
    let quoted = match format.quoting {
        Some(quoting) => quoting == Quoting::Minimal,
        // A header in quotes shows that the other fields are quoted too.
        None => !is_tsv || text.peek()?.starts_with(b"\""),
    };
    let delimiter = match format.delimiter.or(named) {
        Some(delimiter) => delimiter.byte(),
        None => detect_delimiter(text.peek()?, usual.byte(), quoted),
    };
    let other = Delimiter::ALL.into_iter().find(|other| other.byte() == delimiter && *other != usual);
    notes.delimiter = other.map(Delimiter::remark);
    let doubtful = !quoted && format.quoting.is_none();
    let splitter = Splitter::new(delimiter, quoted).at_line(1 + usize::from(named.is_some()));
    let mut table = Table { text, splitter, doubtful };
    let mut fields = Fields::default();
    let names = loop {
        if !table.next(&mut fields)? {
            return Ok(());
        }
        if !fields.is_blank() {
            break table.header(&fields)?;
        }
    };
    while table.next(&mut fields)? {
        if fields.is_blank() {
            notes.blank_lines += 1;
            continue;
        }
        notes.quoted_rows += u64::from(fields.lines > 2 && lines_are_rows(&fields, delimiter));
        match table.object(&names, &fields) {
            Ok(object) => each(fields.line, Ok(&object))?,
            Err(flaw) => each(fields.line, Err(flaw))?,
        }
        table.text.records += 1;
    }
    Ok(())
}

/// Skips the line `sep=;` by which Excel names the delimiter, and returns the delimiter.
fn excel_delimiter(text: &mut InputText) -> Result<Option<Delimiter>, DataError> {
    let start = text.peek()?;
    let quote = usize::from(start.starts_with(b"\""));
    let Some([byte, rest @ ..]) = start.get(quote..).and_then(|start| start.strip_prefix(b"sep=")) else {
        return Ok(None);
    };
    let delimiter = Delimiter::ALL.into_iter().find(|delimiter| delimiter.byte() == *byte);
    let rest = &rest[quote.min(rest.len())..];
    let Some(delimiter) = delimiter.filter(|_| rest.starts_with(b"\n") || rest.starts_with(b"\r\n")) else {
        return Ok(None);
    };
    let mut line = Vec::new();
    text.line(&mut line, MAX_RECORD_BYTES)?;
    Ok(Some(delimiter))
}

/// Table being read.
struct Table<'a> {
    text: &'a mut InputText,
    splitter: Splitter,
    /// True if quotes are plain text by default and not by the recipe.
    doubtful: bool,
}

/// Advice for quotes that are not those of CSV.
const PLAIN_QUOTES: &str = "repair the row, or set `csv: {quoting: none}` if quotes are plain text";

/// Advice for quotes in a file that has none by default.
const CSV_QUOTES: &str = "if fields are quoted as in CSV, set `csv: {quoting: minimal}`";

impl Table<'_> {
    fn fail(&self, message: String) -> DataError {
        DataError::Table { file: self.text.path().to_owned(), message }
    }

    /// Reads the next record; false at the end of the file.
    fn next(&mut self, fields: &mut Fields) -> Result<bool, DataError> {
        self.splitter.start(fields);
        loop {
            let bytes = self.text.peek()?;
            let end = bytes.is_empty();
            let (used, split) = self.splitter.split(bytes, fields);
            self.text.consume(used);
            match split {
                Split::Record => return Ok(true),
                Split::TextAfterQuote { opened } => {
                    let line = self.splitter.line();
                    return Err(self.fail(format!(
                        "text after a closing quote at line {line}, in a field whose quote was opened at line \
                         {opened}; {PLAIN_QUOTES}"
                    )));
                }
                Split::Unfinished if end => {
                    return match self.splitter.finish(fields) {
                        Ok(()) => Ok(!fields.is_blank()),
                        Err(opened) => Err(self.fail(format!(
                            "the quote opened at line {opened} is never closed; {PLAIN_QUOTES}"
                        ))),
                    };
                }
                Split::Unfinished if fields.bytes.len() > MAX_RECORD_BYTES => {
                    return Err(self.fail(format!(
                        "the record at line {} is longer than {} MiB; check for an unterminated quote",
                        fields.line,
                        MAX_RECORD_BYTES >> 20
                    )));
                }
                Split::Unfinished => {}
            }
        }
    }

    fn header(&self, fields: &Fields) -> Result<Vec<String>, DataError> {
        let names: Vec<String> =
            fields.iter().map(|name| String::from_utf8_lossy(name.trim_ascii()).into_owned()).collect();
        let twice = (1..names.len())
            .find_map(|n| names[n..].iter().find(|name| **name == names[n - 1] && !name.is_empty()));
        match twice {
            Some(name) => {
                Err(self.fail(format!("the header has the column `{name}` twice; rename one of them")))
            }
            None => Ok(names),
        }
    }

    /// Returns a record as an object. Columns without a name are left out.
    fn object(&self, names: &[String], fields: &Fields) -> Result<Vec<u8>, Flaw> {
        if fields.len() != names.len() {
            let hint = fields
                .iter()
                .any(|field| field.starts_with(b"\"") || field.ends_with(b"\""))
                .then_some(CSV_QUOTES);
            let hint = hint.filter(|_| self.doubtful).map(|hint| format!("; {hint}")).unwrap_or_default();
            let detail = format!("{} fields where the header has {}{hint}", fields.len(), names.len());
            return Err(Flaw { reason: RejectReason::UnevenRow, detail });
        }
        let mut object = serde_json::Map::new();
        for (name, value) in names.iter().zip(fields.iter()).filter(|(name, _)| !name.is_empty()) {
            let value = std::str::from_utf8(value).map_err(|error| Flaw {
                reason: RejectReason::NotUtf8,
                detail: format!("`{name}` has invalid UTF-8 after {} bytes", error.valid_up_to()),
            })?;
            if self.doubtful && is_quoted(value) {
                let detail = format!("`{name}` is quoted, with doubled quotes within; {CSV_QUOTES}");
                return Err(Flaw { reason: RejectReason::BadValue, detail });
            }
            object.insert(name.clone(), value.into());
        }
        serde_json::to_vec(&object)
            .map_err(|error| Flaw { reason: RejectReason::NotJson, detail: error.to_string() })
    }
}

/// Returns true if a field can only be one that a CSV writer quoted: all quotes within are doubled,
/// and there are some.
fn is_quoted(field: &str) -> bool {
    let inner = field.strip_prefix('"').and_then(|field| field.strip_suffix('"'));
    inner.is_some_and(|inner| inner.contains("\"\"") && !inner.replace("\"\"", "").contains('"'))
}

/// Returns true if each line of a record would be a row of its own without the quotes, as if two
/// rows had a lone quote each.
fn lines_are_rows(fields: &Fields, delimiter: u8) -> bool {
    let mut line_fields = 1;
    let line_ends = |count: &mut usize| std::mem::replace(count, 1) == fields.len();
    for (index, field) in fields.iter().enumerate() {
        line_fields += usize::from(index > 0);
        for byte in field {
            if *byte == delimiter {
                line_fields += 1;
            } else if *byte == b'\n' && !line_ends(&mut line_fields) {
                return false;
            }
        }
    }
    line_ends(&mut line_fields)
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
        // An index column without a name, as pandas writes it.
        assert_eq!(sound("a.csv", ",a\n0,x\n"), [(2, r#"{"a":"x"}"#.to_owned())]);
    }

    #[test]
    fn the_first_line_of_excel_names_the_delimiter() {
        let expected = [(3, r#"{"a":"1,5","b":"2"}"#.to_owned())];
        for text in ["sep=;\r\na;b\r\n1,5;2\r\n", "\"sep=;\"\na;b\n1,5;2\n", "sep=|\na|b\n1,5|2\n"] {
            assert_eq!(sound("a.csv", text), expected, "{text}");
        }
        assert_eq!(sound("a.csv", "sep=x,b\n1,2\n"), [(2, r#"{"sep=x":"1","b":"2"}"#.to_owned())]);
        let text: Vec<u8> = "\u{feff}prompt\tb\r\n\"é\n\"\"x\"\"\"\t2\r\n"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let (rows, notes) = records("Unicode text.txt", &text).unwrap();
        assert_eq!(rows, [(2, Ok(r#"{"prompt":"é\n\"x\"","b":"2"}"#.to_owned()))]);
        assert_eq!((notes.decoded_from, notes.delimiter), (Some("utf_16"), Some("tab_delimiter")));
    }

    #[test]
    fn uneven_and_undecodable_records_are_flaws_and_doubled_columns_an_error() {
        let (rows, _) = records("a.csv", b"a,b\n1\n\xff\xc3\xa9\xc3\xa9,2\n3,4\n").unwrap();
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

    #[test]
    fn a_lone_quote_does_not_swallow_the_rows_below_it() {
        for (text, message) in [
            ("a,b\n1,2\n3,\"4\n5,6\n7,8\n", "the quote opened at line 3 is never closed"),
            (
                "a,b\n3,\"4\n5,6\n7,\"8\"\n",
                "text after a closing quote at line 4, in a field whose quote was opened at line 2",
            ),
            ("a,b\n1,\"2\"x\n", "text after a closing quote at line 2"),
        ] {
            let error = records("a.csv", text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(message) && error.contains("quoting: none"), "{error}");
        }
        // Two lone quotes that look like a pair cannot be told from a quoted field, only noted.
        let (rows, notes) = records("a.csv", b"a,b\n1,\"2\n3,4\n5,6\"\n7,8\n").unwrap();
        assert_eq!((rows.len(), notes.quoted_rows), (2, 1));
        let (rows, notes) = records("a.csv", b"a,b\n1,\"2\nthree\nfour, five\"\n7,8\n").unwrap();
        assert_eq!((rows.len(), notes.quoted_rows), (2, 0));
    }

    #[test]
    fn a_tsv_has_no_quotes_unless_it_shows_them() {
        let plain = sound("a.tsv", "a\tb\nsix\t5\" wide\nseven\t\"open\neight\t\"both\"\n");
        assert_eq!(plain[1].1, r#"{"a":"seven","b":"\"open"}"#);
        assert_eq!(plain[2].1, r#"{"a":"eight","b":"\"both\""}"#);
        assert_eq!(sound("a.tsv", "\"a\"\t\"b\"\n\"x\"\t\"y\tz\"\n")[0].1, r#"{"a":"x","b":"y\tz"}"#);
        let (rows, _) = records("a.tsv", b"a\tb\nx\t\"say \"\"hi\"\"\"\nx\t\"two\nlines\"\n").unwrap();
        for row in [&rows[0].1, &rows[2].1] {
            let detail = &row.as_ref().unwrap_err().detail;
            assert!(detail.contains("quoting: minimal"), "{detail}");
        }
    }

    #[test]
    fn excels_tables_are_read_with_their_delimiter_and_encoding() {
        let expected = [(2, r#"{"a":"grün","b":"1,5"}"#.to_owned())];
        let semicolons = records("a.csv", "a;b\r\ngrün;1,5\r\n".as_bytes()).unwrap();
        let western = records("a.csv", b"a;b\r\ngr\xfcn;1,5\r\n").unwrap();
        let mut unicode = b"\xff\xfe".to_vec();
        unicode.extend("a\tb\r\ngrün\t\"1,5\"\r\n".encode_utf16().flat_map(u16::to_le_bytes));
        let unicode = records("a.txt", &unicode).unwrap();
        for (rows, notes, encoding, delimiter) in [
            (semicolons.0, semicolons.1, None, "semicolon_delimiter"),
            (western.0, western.1, Some("windows_1252"), "semicolon_delimiter"),
            (unicode.0, unicode.1, Some("utf_16"), "tab_delimiter"),
        ] {
            let rows: Vec<_> = rows.into_iter().map(|(line, row)| (line, row.unwrap())).collect();
            assert_eq!(rows, expected);
            assert_eq!((notes.decoded_from, notes.delimiter), (encoding, Some(delimiter)));
        }
        let error = records("a.csv", b"a,b\n\xcf\xf0\xe8\xe2\xe5\xf2,1\n").unwrap_err().to_string();
        assert!(error.contains("neither UTF-8 nor UTF-16 nor Windows-1252"), "{error}");
    }
}
