//! Writing the parquet files of a dataset.
//!
//! Rows arrive in batches of columns and are written in row groups, whose columns are encoded and
//! compressed in parallel. A row group ends with the batch that fills it, so the bytes depend only
//! on the rows and batches.

use std::path::{Path, PathBuf};

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, FieldRef, Fields};
use fs_err::File;
use parquet::{
    arrow::{
        ArrowWriter,
        arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves},
    },
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::{properties::WriterProperties, writer::SerializedFileWriter},
};
use rayon::prelude::*;

use super::{ParquetRow, path, schema};
use crate::{BinaryRow, DataError, PairRow, Split};

/// Rows that fill a row group.
const GROUP_ROWS: usize = 8192;

/// Bytes of columns that fill a row group.
const GROUP_BYTES: usize = 16 << 20;

/// Bytes of pending row groups that are encoded together.
const PENDING_BYTES: usize = 48 << 20;

/// Writer of one file.
struct TableWriter {
    path: PathBuf,
    writer: SerializedFileWriter<File>,
    columns: ArrowRowGroupWriterFactory,
    fields: Fields,
    /// Batches of the current row group.
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
    row_groups: usize,
}

impl TableWriter {
    fn create<R: ParquetRow>(dataset: &Path, split: Split, groups: bool) -> Result<Self, DataError> {
        let path = path::<R>(dataset, split);
        if let Some(folder) = path.parent() {
            fs_err::create_dir_all(folder)?;
        }
        let properties = WriterProperties::builder()
            .set_created_by("prospect".to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        let schema = schema::<R>(groups);
        let fields = schema.fields().clone();
        let (writer, columns) = ArrowWriter::try_new(File::create(&path)?, schema, Some(properties))
            .and_then(ArrowWriter::into_serialized_writer)
            .map_err(DataError::parquet(&path))?;
        Ok(Self { path, writer, columns, fields, batches: Vec::new(), rows: 0, bytes: 0, row_groups: 0 })
    }

    /// Returns the current row group and starts the next. `table` is the index of this file.
    fn take(&mut self, table: usize) -> Result<PendingRowGroup, ParquetError> {
        let mut writers = self.columns.create_column_writers(self.row_groups)?.into_iter();
        let batches = std::mem::take(&mut self.batches);
        let columns = self.fields.iter().enumerate().map(|(index, field)| PendingColumn {
            field: field.clone(),
            writers: writers.by_ref().take(leaves(field.data_type())).collect(),
            arrays: batches.iter().map(|batch| batch.column(index).clone()).collect(),
        });
        let row_group = PendingRowGroup { table, columns: columns.collect() };
        (self.rows, self.bytes, self.row_groups) = (0, 0, self.row_groups + 1);
        Ok(row_group)
    }

    fn append(&mut self, columns: Vec<Vec<ArrowColumnChunk>>) -> Result<(), ParquetError> {
        let mut row_group = self.writer.next_row_group()?;
        for chunk in columns.into_iter().flatten() {
            chunk.append_to_row_group(&mut row_group)?;
        }
        row_group.close()?;
        Ok(())
    }
}

/// Returns the number of parquet columns of an Arrow type.
fn leaves(data_type: &DataType) -> usize {
    match data_type {
        DataType::List(field) => leaves(field.data_type()),
        DataType::Struct(fields) => fields.iter().map(|field| leaves(field.data_type())).sum(),
        _ => 1,
    }
}

/// A full row group that is not yet encoded.
struct PendingRowGroup {
    /// Index of its file.
    table: usize,
    columns: Vec<PendingColumn>,
}

/// A field of a row group that is not yet encoded.
struct PendingColumn {
    field: FieldRef,
    writers: Vec<ArrowColumnWriter>,
    arrays: Vec<ArrayRef>,
}

impl PendingColumn {
    fn encode(mut self) -> Result<Vec<ArrowColumnChunk>, ParquetError> {
        for array in &self.arrays {
            for (leaf, writer) in compute_leaves(&self.field, array)?.iter().zip(&mut self.writers) {
                writer.write(leaf)?;
            }
        }
        self.writers.into_iter().map(ArrowColumnWriter::close).collect()
    }
}

/// Writers of the binary and the paired file of each split.
pub(crate) struct DatasetWriter {
    files: Vec<TableWriter>,
    waiting: Vec<PendingRowGroup>,
    bytes: usize,
}

impl DatasetWriter {
    /// Creates the files of `dataset`, with the column `group` if there are groups.
    pub(crate) fn create(dataset: &Path, groups: bool) -> Result<Self, DataError> {
        let mut files = Vec::new();
        for split in Split::ALL {
            files.push(TableWriter::create::<BinaryRow>(dataset, split, groups)?);
            files.push(TableWriter::create::<PairRow>(dataset, split, groups)?);
        }
        Ok(Self { files, waiting: Vec::new(), bytes: 0 })
    }

    /// Appends rows to the file of a split.
    pub(crate) fn push<R: ParquetRow>(&mut self, split: Split, batch: RecordBatch) -> Result<(), DataError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let index = 2 * usize::from(split == Split::Test) + usize::from(R::FOLDER == PairRow::FOLDER);
        let table = &mut self.files[index];
        table.rows += batch.num_rows();
        let bytes: usize = batch.columns().iter().map(Array::get_array_memory_size).sum();
        table.bytes += bytes;
        table.batches.push(batch);
        if table.rows >= GROUP_ROWS || table.bytes >= GROUP_BYTES {
            self.bytes += table.bytes;
            self.waiting.push(table.take(index).map_err(DataError::parquet(&table.path))?);
        }
        if self.bytes >= PENDING_BYTES { self.encode() } else { Ok(()) }
    }

    /// Encodes the pending row groups in parallel and appends them in order.
    fn encode(&mut self) -> Result<(), DataError> {
        let mut tables = Vec::new();
        let mut columns = Vec::new();
        for row_group in self.waiting.drain(..) {
            tables.push((row_group.table, row_group.columns.len()));
            columns.extend(row_group.columns);
        }
        let encoded: Vec<_> = columns.into_par_iter().with_max_len(1).map(PendingColumn::encode).collect();
        let mut encoded = encoded.into_iter();
        for (table, columns) in tables {
            let table = &mut self.files[table];
            let columns: Result<Vec<_>, _> = encoded.by_ref().take(columns).collect();
            columns.and_then(|columns| table.append(columns)).map_err(DataError::parquet(&table.path))?;
        }
        self.bytes = 0;
        Ok(())
    }

    /// Writes the last row groups and closes the files.
    pub(crate) fn finish(mut self) -> Result<(), DataError> {
        for index in 0..self.files.len() {
            let table = &mut self.files[index];
            if table.rows > 0 {
                self.waiting.push(table.take(index).map_err(DataError::parquet(&table.path))?);
            }
        }
        self.encode()?;
        for table in self.files {
            table.writer.into_inner().map_err(DataError::parquet(&table.path))?.sync_all()?;
        }
        Ok(())
    }
}
