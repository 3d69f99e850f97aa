//! Records of any file as JSON objects, for readers that know the columns that they need.

use std::path::Path;

use serde_json::{Map, Value};

use super::{FileFormat, for_each_record};
use crate::{
    DataError,
    ingest::sources::json::{self, Object},
};

/// Records of a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Records {
    /// Records in order. Fields of CSV and TSV are strings.
    pub objects: Vec<Map<String, Value>>,
    /// Number of records that are no JSON object, or too long.
    pub unreadable: usize,
}

/// Reads the records of a file: JSON Lines, a JSON array or document, CSV, TSV, parquet or Arrow,
/// text also compressed.
///
/// # Errors
///
/// Fails if the file cannot be opened, or as a table cannot be split into rows.
pub fn read_objects(path: &Path) -> Result<Records, DataError> {
    let mut records = Records::default();
    for_each_record(path, FileFormat::default(), None, &mut |_, record| {
        match record.and_then(json::parse::<Object>) {
            Ok(Object(object)) => records.objects.push(object),
            Err(_) => records.unreadable += 1,
        }
        Ok(())
    })?;
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_tables_and_lines_are_objects() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs_err::write(&path, text).unwrap();
            read_objects(&path).unwrap()
        };
        let table = read("sheet.csv", "run,winner\nkto,A\n\"dpo, 2\",tie\n");
        assert_eq!((table.objects.len(), table.unreadable), (2, 0));
        assert_eq!(table.objects[1]["run"], "dpo, 2");
        let lines = read("lines.jsonl", "{\"a\": 1}\nnot json\n{\"a\": 2}\n");
        assert_eq!((lines.objects.len(), lines.unreadable), (2, 1));
    }
}
