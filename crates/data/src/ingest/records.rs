//! Records of an input file in any supported container: JSON Lines, a JSON array, CSV, TSV or
//! parquet; all but parquet also with gzip.
//!
//! Each record is passed on as the bytes of one JSON object, with its position in the file: the
//! line number (JSON Lines, CSV and TSV) or the index of the array element or parquet row.
//! Positions start at 1. Memory is bounded: records are held one at a time, each at most
//! [`MAX_RECORD_BYTES`] bytes.

mod array;
mod csv;
mod lines;
mod parquet;
mod parquet_json;
mod text;

use std::path::Path;

use crate::{DataError, ingest::raw::Flaw};

/// Maximum length of a record in bytes. Longer records are rejected without being kept in memory.
pub(crate) const MAX_RECORD_BYTES: usize = 16 << 20;

/// Observations about a whole file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct FileNotes {
    /// True if the file began with a byte order mark (skipped).
    pub(crate) byte_order_mark: bool,
    /// Number of lines with only white space (skipped).
    pub(crate) blank_lines: u64,
}

/// Callback for a record: its position, and its bytes or the flaw that makes it unreadable.
pub(crate) type RecordHandler<'a> = dyn FnMut(usize, Result<&[u8], Flaw>) -> Result<(), DataError> + 'a;

/// Container format of a file's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Lines,
    Array,
    Delimited(u8),
}

/// Calls `each` for every record of the file, in order.
pub(crate) fn for_each_record(path: &Path, each: &mut RecordHandler<'_>) -> Result<FileNotes, DataError> {
    if text::is_parquet(path)? {
        return parquet::read(path, each);
    }
    let mut text = text::InputText::open(path)?;
    let mut notes = FileNotes { byte_order_mark: text.skip_byte_order_mark()?, blank_lines: 0 };
    match container(path, &mut text)? {
        Container::Array => array::read(&mut text, each)?,
        Container::Delimited(delimiter) => csv::read(&mut text, delimiter, each)?,
        Container::Lines => notes.blank_lines = lines::read(&mut text, each)?,
    }
    Ok(notes)
}

/// Detects the container: CSV and TSV by file name, since any text could be a table; JSON by its
/// first byte.
fn container(path: &Path, text: &mut text::InputText) -> Result<Container, DataError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    Ok(match name.rsplit('.').next() {
        Some("csv") => Container::Delimited(b','),
        Some("tsv") => Container::Delimited(b'\t'),
        _ if text.first_visible_byte()? == Some(b'[') => Container::Array,
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
        let notes = for_each_record(&path, &mut |place, record| {
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
