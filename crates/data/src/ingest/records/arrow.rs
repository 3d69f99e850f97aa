//! Arrow IPC: files (Feather version 2 is one) and streams, as pyarrow and `datasets` write them.
//!
//! Each row becomes a JSON object without its null columns, as rows of parquet do.

use std::{io::BufReader, path::Path};

use arrow_array::RecordBatch;
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_schema::{ArrowError, SchemaRef};
use fs_err::File;
use prospect_core::contain::contain;

use crate::{
    DataError,
    ingest::records::{
        FileNotes, MAX_RECORD_BYTES, RecordHandler, arrow_claims, lines::too_long, parquet_json,
    },
};

type Input = BufReader<File>;

fn open_file(path: &Path, projection: Option<Vec<usize>>) -> Result<FileReader<Input>, DataError> {
    arrow_claims::check_file(path)?;
    let file = BufReader::new(File::open(path)?);
    undamaged(path, || FileReader::try_new(file, projection))?.map_err(DataError::arrow(path))
}

fn open_stream(path: &Path, projection: Option<Vec<usize>>) -> Result<StreamReader<Input>, DataError> {
    arrow_claims::check_stream(path)?;
    let file = BufReader::new(File::open(path)?);
    undamaged(path, || StreamReader::try_new(file, projection))?.map_err(DataError::arrow(path))
}

/// Returns the names of the columns of a file.
pub(super) fn file_columns(path: &Path) -> Result<Vec<String>, DataError> {
    Ok(names(&open_file(path, None)?.schema()))
}

/// Returns the names of the columns of a stream.
pub(super) fn stream_columns(path: &Path) -> Result<Vec<String>, DataError> {
    Ok(names(&open_stream(path, None)?.schema()))
}

fn names(schema: &SchemaRef) -> Vec<String> {
    schema.fields().iter().map(|field| field.name().clone()).collect()
}

/// Calls `each` for every row of a file, with the columns of these names, or all if None.
pub(super) fn read_file(
    path: &Path,
    columns: Option<&[String]>,
    each: &mut RecordHandler<'_>,
) -> Result<FileNotes, DataError> {
    let projection = projection(&open_file(path, None)?.schema(), columns);
    rows(path, open_file(path, projection)?, each)
}

/// Calls `each` for every row of a stream, with the columns of these names, or all if None.
pub(super) fn read_stream(
    path: &Path,
    columns: Option<&[String]>,
    each: &mut RecordHandler<'_>,
) -> Result<FileNotes, DataError> {
    let projection = projection(&open_stream(path, None)?.schema(), columns);
    rows(path, open_stream(path, projection)?, each)
}

/// Selects columns by name. A name with dots or brackets may be that of a column or a path into
/// one.
fn projection(schema: &SchemaRef, columns: Option<&[String]>) -> Option<Vec<usize>> {
    let columns = columns?;
    let wanted = schema.fields().iter().enumerate().filter(|(_, field)| is_wanted(columns, field.name()));
    Some(wanted.map(|(index, _)| index).collect())
}

/// Returns true if a column is among those that may be read.
pub(super) fn is_wanted(columns: &[String], name: &str) -> bool {
    columns.iter().any(|column| {
        column.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    })
}

/// Reads with a library of Arrow, which panics on some damaged files.
pub(super) fn undamaged<T>(path: &Path, read: impl FnOnce() -> T) -> Result<T, DataError> {
    contain(read).ok_or_else(|| damaged(path))
}

pub(super) fn damaged(path: &Path) -> DataError {
    let message = "it is damaged; copy or download it again".to_owned();
    DataError::Table { file: path.to_owned(), message }
}

/// Calls `each` for every row of some batches.
pub(super) fn rows(
    path: &Path,
    mut batches: impl Iterator<Item = Result<RecordBatch, ArrowError>>,
    each: &mut RecordHandler<'_>,
) -> Result<FileNotes, DataError> {
    let mut number = 0;
    while let Some(batch) = undamaged(path, || batches.next())? {
        let batch = batch.map_err(DataError::arrow(path))?;
        for row in 0..batch.num_rows() {
            number += 1;
            let line = undamaged(path, || parquet_json::row(&batch, row).to_string())?;
            each(number, if line.len() > MAX_RECORD_BYTES { Err(too_long()) } else { Ok(line.as_bytes()) })?;
        }
    }
    Ok(FileNotes::default())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, BooleanArray, Int64Array, StringArray};
    use arrow_ipc::{
        CompressionType,
        writer::{FileWriter, IpcWriteOptions, StreamWriter},
    };

    use super::*;
    use crate::ingest::records::{FileFormat, for_each_record, tests::records};

    fn batch() -> RecordBatch {
        let prompts: ArrayRef = Arc::new(StringArray::from(vec!["a\n\"b\"", "c"]));
        let labels: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), None]));
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        RecordBatch::try_from_iter(vec![("prompt", prompts), ("label", labels), ("id", ids)]).unwrap()
    }

    fn file(compression: Option<CompressionType>) -> Vec<u8> {
        let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
        let mut writer = FileWriter::try_new_with_options(Vec::new(), &batch().schema(), options).unwrap();
        writer.write(&batch()).unwrap();
        writer.into_inner().unwrap()
    }

    fn stream() -> Vec<u8> {
        let mut writer = StreamWriter::try_new(Vec::new(), &batch().schema()).unwrap();
        writer.write(&batch()).unwrap();
        writer.write(&batch()).unwrap();
        writer.into_inner().unwrap()
    }

    #[test]
    fn files_and_streams_are_read_with_every_compression() {
        let first = r#"{"prompt":"a\n\"b\"","label":true,"id":1}"#;
        let second = r#"{"prompt":"c","id":2}"#;
        for compression in [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)] {
            let (rows, _) = records("a.feather", &file(compression)).unwrap();
            let expected = [(1, Ok(first.to_owned())), (2, Ok(second.to_owned()))];
            assert_eq!(rows, expected, "{compression:?}");
        }
        let (rows, _) = records("no-name", &stream()).unwrap();
        assert_eq!(rows.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(rows[3].1.as_ref().unwrap(), second);
    }

    #[test]
    fn only_the_columns_asked_for_are_read() {
        for content in [file(None), stream()] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.arrow");
            fs_err::write(&path, content).unwrap();
            let mut rows = Vec::new();
            let wanted = ["label".to_owned(), "prompt[0].text".to_owned()];
            for_each_record(&path, FileFormat::default(), Some(&wanted), &mut |_, row| {
                rows.push(String::from_utf8(row.unwrap().to_vec()).unwrap());
                Ok(())
            })
            .unwrap();
            assert_eq!(rows[..2], [r#"{"prompt":"a\n\"b\"","label":true}"#, r#"{"prompt":"c"}"#]);
            let names = crate::ingest::records::column_names(&path).unwrap().unwrap();
            assert_eq!(names, ["prompt", "label", "id"]);
        }
    }

    #[test]
    fn no_damaged_file_panics() {
        for (name, original) in
            [("a.arrow", file(None)), ("a.arrow", stream()), ("a.feather", file(Some(CompressionType::ZSTD)))]
        {
            for round in 0..prospect_testkit::fuzz_rounds(200) {
                // An error is as good as rows.
                let _ = records(name, &prospect_testkit::mutated(&original, round));
            }
        }
    }

    #[test]
    fn damaged_files_and_the_first_feather_are_errors() {
        let whole = file(None);
        assert!(records("a.arrow", &whole[..whole.len() / 2]).is_err());
        let whole = stream();
        assert!(records("a.arrow", &whole[..whole.len() / 2]).is_err());
        let error = records("a.feather", b"FEA1....").unwrap_err().to_string();
        assert!(error.contains("version 1"), "{error}");
    }
}
