//! The records of an input file, whatever contains them: JSON lines, a JSON array, CSV, TSV or parquet, the first
//! four also compressed with gzip.
//!
//! Every record is handed on as the bytes of one JSON object, with its place in the file: the line of JSON lines and
//! CSV, the number of an array's element or of a parquet row, both from 1. Memory is bounded: one record at a time,
//! none longer than [`LONGEST`].

mod array;
mod csv;
mod lines;
mod parquet;
mod text;

use std::path::Path;

use crate::{DataError, ingest::raw::Flaw};

/// The longest record in bytes. Longer ones are rejected without being kept in memory.
pub(crate) const MAX_RECORD_BYTES: usize = 16 << 20;

/// What reading a whole file tells beside its records.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct FileNotes {
    /// Whether the file began with a byte order mark (skipped).
    pub(crate) byte_order_mark: bool,
    /// Lines that hold only white space (skipped).
    pub(crate) blank_lines: u64,
}

/// Takes a record: its place, and its bytes or why it has none.
pub(crate) type RecordHandler<'a> = dyn FnMut(usize, Result<&[u8], Flaw>) -> Result<(), DataError> + 'a;

/// How a file contains its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Lines,
    Array,
    Delimited(u8),
}

/// Calls `each` with every record of the file, in order.
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

/// Told by the name for tables of text, which look like anything, and by the first byte for JSON.
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

    /// Records with their places.
    type Placed = Vec<(usize, Result<String, Flaw>)>;

    /// The records of a file of this name and content.
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

    /// The records, none of which is flawed.
    pub(crate) fn sound(name: &str, content: &str) -> Vec<(usize, String)> {
        let (records, _) = records(name, content.as_bytes()).unwrap();
        records.into_iter().map(|(place, record)| (place, record.unwrap())).collect()
    }
}
