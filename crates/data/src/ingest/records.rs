//! Records of an input file in any supported container: JSON Lines, a JSON array or document, CSV,
//! TSV, parquet or Arrow; text also with gzip, zstd or bzip2, and in UTF-8, UTF-16 or Windows-1252.
//!
//! Each record is passed on as the bytes of one JSON object, with its position in the file: the
//! line number (JSON Lines, CSV and TSV) or the index of the array element or parquet row.
//! Positions start at 1. Memory is bounded: records are held one at a time, each at most
//! [`MAX_RECORD_BYTES`] bytes.

mod array;
mod arrow;
mod arrow_claims;
mod csv;
mod csv_split;
mod document;
mod encoding;
mod lines;
mod objects;
mod parquet;
mod parquet_json;
mod text;

use std::path::Path;

use serde::Serialize;

pub use csv::{CsvFormat, Delimiter, Quoting};
pub use encoding::TextEncoding;
pub use objects::{Records, read_objects};

use crate::{
    DataError,
    ingest::raw::{Flaw, Remark},
};
use text::BinaryFormat;

/// Maximum length of a record in bytes. Longer records are rejected without being kept in memory.
pub(crate) const MAX_RECORD_BYTES: usize = 16 << 20;

/// Format of a file as far as the recipe gives it; the rest is detected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct FileFormat {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) encoding: Option<TextEncoding>,
    #[serde(flatten)]
    pub(crate) csv: CsvFormat,
}

/// Observations about a whole file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct FileNotes {
    /// True if the file began with a byte order mark (skipped).
    pub(crate) byte_order_mark: bool,
    /// Number of lines with only white space (skipped).
    pub(crate) blank_lines: u64,
    /// Encoding other than UTF-8.
    pub(crate) decoded_from: Option<&'static str>,
    /// Delimiter of a table other than its file name suggests.
    pub(crate) delimiter: Option<&'static str>,
    /// Form of a JSON document that is neither lines nor an array.
    pub(crate) document: Option<&'static str>,
    /// Rows of a table with a quoted field of several lines, each of which could be a row of its
    /// own.
    pub(crate) quoted_rows: u64,
}

impl FileNotes {
    /// Returns the observations as remarks, with the number of times that each applies.
    pub(crate) fn remarks(&self) -> impl Iterator<Item = (Remark, u64)> {
        let once = |name: Option<&'static str>| name.map(|name| (Remark::Repaired(name), 1));
        let counts = [
            (Remark::Repaired("byte_order_mark"), self.byte_order_mark.into()),
            (Remark::Repaired("blank_line"), self.blank_lines),
            (Remark::Noted("quoted_field_like_rows"), self.quoted_rows),
        ];
        counts
            .into_iter()
            .chain(once(self.decoded_from))
            .chain(once(self.delimiter))
            .chain(once(self.document))
    }
}

/// Callback for a record: its position, and its bytes or the flaw that makes it unreadable.
pub(crate) type RecordHandler<'a> = dyn FnMut(usize, Result<&[u8], Flaw>) -> Result<(), DataError> + 'a;

/// Container format of a file's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Lines,
    Array,
    /// Begins with a brace: lines or one document.
    Object,
    Table,
}

/// Returns true if a file is read as a table of delimited text, by its name.
pub(crate) fn is_table(name: &str) -> bool {
    matches!(extension(name).as_deref(), Some("csv" | "tsv" | "txt"))
}

/// Returns a file name without the extension of its compression.
pub(crate) fn without_compression(name: &str) -> &str {
    [".gz", ".zst", ".bz2"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}

fn extension(name: &str) -> Option<String> {
    let name = name.to_lowercase();
    let name = without_compression(&name);
    name.rsplit_once('.').map(|(_, extension)| extension.to_owned())
}

/// Calls `each` for every record of the file, in order. Of parquet files, only the `columns` are
/// read, or all if None.
pub(crate) fn for_each_record(
    path: &Path,
    format: FileFormat,
    columns: Option<&[String]>,
    each: &mut RecordHandler<'_>,
) -> Result<FileNotes, DataError> {
    match text::binary_format(path)? {
        Some(BinaryFormat::Parquet) => return parquet::read(path, columns, each),
        Some(BinaryFormat::ArrowFile) => return arrow::read_file(path, columns, each),
        Some(BinaryFormat::ArrowStream) => return arrow::read_stream(path, columns, each),
        Some(BinaryFormat::FeatherV1) => {
            let message =
                "Feather version 1 cannot be read; write it again with a current pyarrow".to_owned();
            return Err(DataError::Table { file: path.to_owned(), message });
        }
        None => {}
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut text = text::InputText::open(path, format.encoding, is_table(&name))?;
    let mut notes = FileNotes {
        byte_order_mark: text.skip_byte_order_mark()?,
        decoded_from: text.decoded_from,
        ..FileNotes::default()
    };
    match container(&name, &mut text)? {
        Container::Array => array::read(&mut text, each)?,
        Container::Table => {
            let is_tsv = extension(&name).as_deref() == Some("tsv");
            csv::read(&mut text, format.csv, is_tsv, &mut notes, each)?;
        }
        Container::Object => match document::read(&mut text, each)? {
            document::Form::Records(form) => notes.document = form,
            document::Form::Lines => {
                // Begin again: the first line was only looked at.
                let mut text = text::InputText::open(path, format.encoding, false)?;
                text.skip_byte_order_mark()?;
                notes.blank_lines = lines::read(&mut text, each)?;
            }
        },
        Container::Lines => notes.blank_lines = lines::read(&mut text, each)?,
    }
    Ok(notes)
}

/// Returns the column names of a parquet or Arrow file; None for other files.
pub(crate) fn column_names(path: &Path) -> Result<Option<Vec<String>>, DataError> {
    match text::binary_format(path)? {
        Some(BinaryFormat::Parquet) => parquet::column_names(path).map(Some),
        Some(BinaryFormat::ArrowFile) => arrow::file_columns(path).map(Some),
        Some(BinaryFormat::ArrowStream) => arrow::stream_columns(path).map(Some),
        Some(BinaryFormat::FeatherV1) | None => Ok(None),
    }
}

/// Detects the container: CSV and TSV by file name, since any text could be a table; JSON by its
/// first byte.
fn container(name: &str, text: &mut text::InputText) -> Result<Container, DataError> {
    let first = text.first_visible_byte()?;
    Ok(match (extension(name).as_deref(), first) {
        (Some("csv" | "tsv"), _) => Container::Table,
        (Some("txt"), Some(first)) if first != b'[' && first != b'{' => Container::Table,
        (_, Some(b'[')) => Container::Array,
        (_, Some(b'{')) => Container::Object,
        _ => Container::Lines,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Records with their positions.
    type Placed = Vec<(usize, Result<String, Flaw>)>;

    /// Reads the records of a file with this name and content.
    pub(crate) fn records(name: &str, content: &[u8]) -> Result<(Placed, FileNotes), DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs_err::write(&path, content).unwrap();
        let mut records = Vec::new();
        let notes = for_each_record(&path, FileFormat::default(), None, &mut |place, record| {
            records.push((place, record.map(|bytes| String::from_utf8_lossy(bytes).into_owned())));
            Ok(())
        })?;
        Ok((records, notes))
    }

    /// Reads the records and asserts that none has a flaw.
    pub(crate) fn sound(name: &str, content: &str) -> Vec<(usize, String)> {
        let (records, _) = records(name, content.as_bytes()).unwrap();
        records.into_iter().map(|(place, record)| (place, record.unwrap())).collect()
    }
}
