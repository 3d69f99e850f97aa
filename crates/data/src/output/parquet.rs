//! Parquet files of a dataset: writing and reading rows.
//!
//! Columns are non-null strings, numbers and lists of `{role, content}`; only scores, `pair_id` and
//! `group` may be null. The column `group` is there only if a source gives groups. They are
//! compressed with zstd. Files hold nothing that varies between runs: the same rows give the same
//! bytes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, Field, Schema};
use parquet::arrow::{
    ProjectionMask,
    arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection},
};

use super::checksums;
use crate::{BinaryRow, DataError, PairRow, Split, table::ids::Id};

pub(crate) mod binary_rows;
pub(crate) mod columns;
pub(crate) mod pair_rows;
mod writer;

use columns::{ColumnReader, optional_text, optional_text_array};
pub(crate) use writer::DatasetWriter;

/// Row type with parquet files of its own.
pub(crate) trait ParquetRow: Sized {
    /// Folder of its files, named after the objective that trains on them.
    const FOLDER: &'static str;
    /// Row to write, with borrowed texts.
    type Borrowed<'a>;
    /// Returns its columns without `group`, in order.
    fn fields() -> Vec<Field>;
    /// Converts rows to one array per field.
    fn to_arrays(rows: &[Self::Borrowed<'_>]) -> Result<Vec<ArrayRef>, ArrowError>;
    /// Returns the group of a row.
    fn group(row: &Self::Borrowed<'_>) -> Option<Id>;
    /// Converts arrays to rows.
    fn from_columns(columns: &ColumnReader<'_>) -> Result<Vec<Self>, DataError>;
}

/// Returns the path of the file of a split, relative to the dataset directory.
pub(crate) fn name<R: ParquetRow>(split: Split) -> String {
    format!("{}/{split}-00000-of-00001.parquet", R::FOLDER)
}

/// Returns the path of the file of a split.
pub(crate) fn path<R: ParquetRow>(dataset: &Path, split: Split) -> PathBuf {
    dataset.join(name::<R>(split))
}

/// Name of the column of groups, the last one.
const GROUP: &str = "group";

/// Returns the schema of a row type, with the column `group` if there are groups.
fn schema<R: ParquetRow>(groups: bool) -> Arc<Schema> {
    let mut fields = R::fields();
    fields.extend(groups.then(|| optional_text(GROUP)));
    Arc::new(Schema::new(fields))
}

/// Converts rows to columns.
pub(crate) fn record_batch<R: ParquetRow>(
    rows: &[R::Borrowed<'_>],
    groups: bool,
) -> Result<RecordBatch, ArrowError> {
    let mut arrays = R::to_arrays(rows)?;
    if groups {
        arrays.push(optional_text_array(rows.iter().map(|row| R::group(row).map(Id::digits))));
    }
    RecordBatch::try_new(schema::<R>(groups), arrays)
}

/// Reads the rows of a split.
pub(crate) fn read<R: ParquetRow>(dataset: &Path, split: Split) -> Result<Vec<R>, DataError> {
    let mut rows = Vec::new();
    for batch in batches::<R>(dataset, split, &[], None)? {
        rows.extend(batch?.rows::<R>()?);
    }
    Ok(rows)
}

/// Checks the file of a split, then reads it batch by batch: the columns in `only`, or all columns
/// if it is empty, of all rows, or of those at the ascending positions `at`.
pub(crate) fn batches<R: ParquetRow>(
    dataset: &Path,
    split: Split,
    only: &[&str],
    at: Option<&[usize]>,
) -> Result<impl Iterator<Item = Result<RowBatch, DataError>> + use<R>, DataError> {
    let file = path::<R>(dataset, split);
    checksums::check(dataset, &name::<R>(split))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(fs_err::File::open(&file)?.into_file())
        .map_err(DataError::parquet(&file))?;
    for field in schema::<R>(true).fields() {
        match builder.schema().field_with_name(field.name()) {
            Err(_) if field.name() == GROUP => {}
            Err(_) => return Err(DataError::column(&file, field.name(), "is missing")),
            Ok(found) if found.data_type() != field.data_type() => {
                let message = format!("has type {}, not {}", found.data_type(), field.data_type());
                return Err(DataError::column(&file, field.name(), message));
            }
            Ok(_) => {}
        }
    }
    let mask = match only {
        [] => ProjectionMask::all(),
        names => ProjectionMask::columns(builder.parquet_schema(), names.iter().copied()),
    };
    let builder = match at {
        None => builder,
        Some(at) => {
            let rows = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(usize::MAX);
            let ranges = at.iter().filter(|row| **row < rows).map(|row| *row..row + 1);
            builder.with_row_selection(RowSelection::from_consecutive_ranges(ranges, rows))
        }
    };
    let reader = builder.with_projection(mask).build().map_err(DataError::parquet(&file))?;
    Ok(reader.map(move |batch| match batch {
        Ok(batch) => Ok(RowBatch { file: file.clone(), batch }),
        Err(error) => Err(DataError::arrow(&file)(error)),
    }))
}

/// Kind of the parquet files of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatasetFile {
    /// Files of [`BinaryRow`]s.
    Binary,
    /// Files of [`PairRow`]s.
    Pairs,
}

/// Batches of rows or columns of a file.
pub type Batches<T> = Box<dyn Iterator<Item = Result<T, DataError>>>;

/// Checks a file of a dataset directory, then reads the columns in `only` batch by batch.
///
/// `prompt`, `completion`, `chosen` and `rejected` are lists of `{role, content}`. Only files of
/// data with groups have the column `group`.
pub fn read_columns(
    dataset: &Path,
    file: DatasetFile,
    split: Split,
    only: &[&str],
) -> Result<Batches<RecordBatch>, DataError> {
    fn columns<R: ParquetRow + 'static>(
        dataset: &Path,
        split: Split,
        only: &[&str],
    ) -> Result<Batches<RecordBatch>, DataError> {
        Ok(Box::new(batches::<R>(dataset, split, only, None)?.map(|batch| Ok(batch?.batch))))
    }
    match file {
        DatasetFile::Binary => columns::<BinaryRow>(dataset, split, only),
        DatasetFile::Pairs => columns::<PairRow>(dataset, split, only),
    }
}

/// Checks a file of a dataset directory, then reads its binary rows batch by batch: all rows, or
/// those at the ascending positions `at`.
pub fn read_binary_batches(
    dataset: &Path,
    split: Split,
    at: Option<&[usize]>,
) -> Result<Batches<Vec<BinaryRow>>, DataError> {
    Ok(Box::new(batches::<BinaryRow>(dataset, split, &[], at)?.map(|batch| batch?.rows())))
}

/// Some rows of a file, as columns.
pub(crate) struct RowBatch {
    file: PathBuf,
    batch: RecordBatch,
}

impl RowBatch {
    /// Returns the rows. All columns must have been read.
    pub(crate) fn rows<R: ParquetRow>(&self) -> Result<Vec<R>, DataError> {
        R::from_columns(&self.columns())
    }

    /// Returns the columns that were read.
    pub(crate) fn columns(&self) -> ColumnReader<'_> {
        ColumnReader { file: &self.file, batch: &self.batch }
    }
}

/// Reads the binary rows of a split of a dataset directory.
pub fn read_binary(dataset: &Path, split: Split) -> Result<Vec<BinaryRow>, DataError> {
    read(dataset, split)
}

/// Reads the pairs of a split of a dataset directory.
pub fn read_pairs(dataset: &Path, split: Split) -> Result<Vec<PairRow>, DataError> {
    read(dataset, split)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::{binary_rows::BinaryRowRef, *};
    use crate::{
        BinaryRow, Message, PairRow,
        ingest::rejections,
        output::manifest,
        read_binary, read_pairs,
        table::{feedback::Origin, ids::prompt_id},
    };

    fn write(dataset: &Path, rows: &[BinaryRowRef<'_>]) {
        let groups = rows.iter().any(|row| row.group.is_some());
        let mut tables = DatasetWriter::create(dataset, groups).unwrap();
        if !rows.is_empty() {
            tables.push::<BinaryRow>(Split::Train, record_batch::<BinaryRow>(rows, groups).unwrap()).unwrap();
        }
        tables.finish().unwrap();
        fs_err::write(dataset.join(manifest::FILE), "").unwrap();
        fs_err::write(dataset.join(rejections::FILE), "").unwrap();
        checksums::record(dataset).unwrap();
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let dataset = tempfile::tempdir().unwrap();
        let prompt = [Message::user("é"), Message::assistant(""), Message::user("x")];
        let completion = [Message::assistant("y")];
        let id = prompt_id(&prompt);
        let origin = Origin { source: "s".into(), domain: "d".into() };
        let out = |pair_id, score, group| BinaryRowRef {
            id,
            prompt_id: id,
            pair_id,
            prompt: &prompt,
            completion: Cow::Borrowed(&completion),
            label: true,
            origin: &origin,
            score,
            original_label: false,
            noise: "flip".into(),
            weight: 0.1,
            group,
        };
        let row = |pair_id, score, group| BinaryRow {
            id: id.to_string(),
            prompt_id: id.to_string(),
            pair_id,
            prompt: prompt.to_vec(),
            completion: completion.to_vec(),
            label: true,
            source: "s".into(),
            domain: "d".into(),
            score,
            original_label: false,
            noise: "flip".into(),
            weight: 0.1,
            group,
        };
        let columns = || {
            let batch =
                batches::<BinaryRow>(dataset.path(), Split::Train, &[], None).unwrap().next().unwrap();
            batch.unwrap().batch.num_columns()
        };
        write(dataset.path(), &[out(None, None, None), out(Some(id), Some(1.5), None)]);
        let rows = [row(None, None, None), row(Some(id.to_string()), Some(1.5), None)];
        assert_eq!(read_binary(dataset.path(), Split::Train).unwrap(), rows);
        assert_eq!(columns(), BinaryRow::fields().len());
        // With a group, there is one more column, in all files.
        write(dataset.path(), &[out(None, None, Some(id)), out(None, None, None)]);
        let rows = [row(None, None, Some(id.to_string())), row(None, None, None)];
        assert_eq!(read_binary(dataset.path(), Split::Train).unwrap(), rows);
        assert_eq!(columns(), BinaryRow::fields().len() + 1);
        assert!(read_pairs(dataset.path(), Split::Test).unwrap().is_empty());
    }

    #[test]
    fn a_foreign_file_is_an_error_that_names_file_and_column() {
        let dataset = tempfile::tempdir().unwrap();
        let missing = read_binary(dataset.path(), Split::Train).unwrap_err().to_string();
        assert!(missing.contains("prospect prepare"), "{missing}");
        write(dataset.path(), &[]);
        fs_err::copy(
            path::<BinaryRow>(dataset.path(), Split::Train),
            path::<PairRow>(dataset.path(), Split::Train),
        )
        .unwrap();
        checksums::record(dataset.path()).unwrap();
        let wrong = read_pairs(dataset.path(), Split::Train).unwrap_err().to_string();
        assert!(wrong.contains("dpo/train-00000-of-00001.parquet: column `chosen` is missing"), "{wrong}");
        fs_err::write(path::<PairRow>(dataset.path(), Split::Train), "PAR1").unwrap();
        checksums::record(dataset.path()).unwrap();
        assert!(read_pairs(dataset.path(), Split::Train).is_err());
    }
}
