//! Arrow IPC: files (Feather version 2 is one) and streams, as pyarrow and `datasets` write them.
//!
//! Each row becomes a JSON object without its null columns, as rows of parquet do.

use std::{io::BufReader, path::Path};

use arrow_array::RecordBatch;
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_schema::{ArrowError, SchemaRef};
use fs_err::File;

use crate::{
    DataError,
    ingest::records::{FileNotes, MAX_RECORD_BYTES, RecordHandler, lines::too_long, parquet_json},
};

type Input = BufReader<File>;

fn open_file(path: &Path, projection: Option<Vec<usize>>) -> Result<FileReader<Input>, DataError> {
    FileReader::try_new(BufReader::new(File::open(path)?), projection).map_err(DataError::arrow(path))
}

fn open_stream(path: &Path, projection: Option<Vec<usize>>) -> Result<StreamReader<Input>, DataError> {
    StreamReader::try_new(BufReader::new(File::open(path)?), projection).map_err(DataError::arrow(path))
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

/// Selects columns by name. A name with dots or brackets may be that of a column or a path into one.
fn projection(schema: &SchemaRef, columns: Option<&[String]>) -> Option<Vec<usize>> {
    let columns = columns?;
    let wanted = schema.fields().iter().enumerate().filter(|(_, field)| is_wanted(columns, field.name()));
    Some(wanted.map(|(index, _)| index).collect())
}

/// Returns true if a column is among those that may be read.
pub(super) fn is_wanted(columns: &[String], name: &str) -> bool {
    columns
        .iter()
        .any(|column| column.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '['])))
}

fn rows(
    path: &Path,
    batches: impl Iterator<Item = Result<RecordBatch, ArrowError>>,
    each: &mut RecordHandler<'_>,
) -> Result<FileNotes, DataError> {
    let mut number = 0;
    for batch in batches {
        let batch = batch.map_err(DataError::arrow(path))?;
        for row in 0..batch.num_rows() {
            number += 1;
            let line = parquet_json::row(&batch, row).to_string();
            each(number, if line.len() > MAX_RECORD_BYTES { Err(too_long()) } else { Ok(line.as_bytes()) })?;
        }
    }
    Ok(FileNotes::default())
}
