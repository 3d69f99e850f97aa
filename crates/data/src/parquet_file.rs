//! Rows to parquet and back.
//!
//! Columns are plain non-null strings, numbers and lists of `{role, content}` (only scores and `pair_id` may be
//! null), compressed with zstd. Nothing that varies between runs goes into a file: same rows, same bytes.

use std::path::{Path, PathBuf};

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::{Field, Schema},
};
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use prospect_core::files::write_whole;

use crate::{DataError, Split};

mod binary;
mod columns;
mod pair;

use columns::Columns;

/// A row type with a parquet file of its own.
pub(crate) trait Record: Sized {
    /// The folder of its files: what trains on them.
    const FOLDER: &'static str;
    /// Its columns, in order.
    fn fields() -> Vec<Field>;
    /// Rows to one array a field.
    fn to_arrays(rows: &[Self]) -> Result<Vec<ArrayRef>, arrow::error::ArrowError>;
    /// Arrays to rows.
    fn from_columns(columns: &Columns<'_>) -> Result<Vec<Self>, DataError>;
}

/// Rows converted and written at a time.
const BATCH: usize = 4096;

/// The file of a split.
pub(crate) fn path<R: Record>(dataset: &Path, split: Split) -> PathBuf {
    dataset.join(R::FOLDER).join(format!("{split}-00000-of-00001.parquet"))
}

/// Writes the rows of a split.
pub(crate) fn write<R: Record>(
    dataset: &Path,
    split: Split,
    rows: impl Iterator<Item = R>,
) -> Result<(), DataError> {
    let file = path::<R>(dataset, split);
    let schema = std::sync::Arc::new(Schema::new(R::fields()));
    let properties = WriterProperties::builder()
        .set_created_by("prospect".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    let mut rows = rows.peekable();
    // The writer's own errors have to pass through an io::Error, whose source they stay.
    write_whole(&file, |out| {
        let mut writer =
            ArrowWriter::try_new(out, schema.clone(), Some(properties)).map_err(std::io::Error::other)?;
        while rows.peek().is_some() {
            let batch: Vec<R> = rows.by_ref().take(BATCH).collect();
            let arrays = R::to_arrays(&batch).map_err(std::io::Error::other)?;
            let batch = RecordBatch::try_new(schema.clone(), arrays).map_err(std::io::Error::other)?;
            writer.write(&batch).map_err(std::io::Error::other)?;
        }
        writer.close().map_err(std::io::Error::other)
    })?;
    Ok(())
}

/// Reads the rows of a split.
pub(crate) fn read<R: Record>(dataset: &Path, split: Split) -> Result<Vec<R>, DataError> {
    let file = path::<R>(dataset, split);
    if !file.exists() {
        return Err(DataError::Missing { file, dataset: dataset.to_owned() });
    }
    let builder = ParquetRecordBatchReaderBuilder::try_new(fs_err::File::open(&file)?.into_file())
        .map_err(DataError::parquet(&file))?;
    for field in R::fields() {
        match builder.schema().field_with_name(field.name()) {
            Err(_) => return Err(DataError::column(&file, field.name(), "is missing")),
            Ok(found) if found.data_type() != field.data_type() => {
                let message = format!("has type {}, not {}", found.data_type(), field.data_type());
                return Err(DataError::column(&file, field.name(), message));
            }
            Ok(_) => {}
        }
    }
    let mut rows = Vec::new();
    for batch in builder.build().map_err(DataError::parquet(&file))? {
        let batch = batch.map_err(DataError::arrow(&file))?;
        rows.extend(R::from_columns(&Columns { file: &file, batch: &batch })?);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BinaryRow, Message, PairRow, read_binary, read_pairs};

    fn row() -> BinaryRow {
        BinaryRow {
            id: "i".into(),
            prompt_id: "p".into(),
            pair_id: None,
            prompt: vec![Message::user("é"), Message::assistant(""), Message::user("x")],
            completion: vec![Message::assistant("y")],
            label: true,
            source: "s".into(),
            domain: "d".into(),
            score: None,
            original_label: false,
            noise: "flip".into(),
            weight: 0.1,
        }
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let dataset = tempfile::tempdir().unwrap();
        let rows = vec![row(), BinaryRow { pair_id: Some("q".into()), score: Some(1.5), ..row() }];
        write(dataset.path(), Split::Train, rows.clone().into_iter()).unwrap();
        assert_eq!(read_binary(dataset.path(), Split::Train).unwrap(), rows);
        write(dataset.path(), Split::Test, std::iter::empty::<PairRow>()).unwrap();
        assert!(read_pairs(dataset.path(), Split::Test).unwrap().is_empty());
    }

    #[test]
    fn a_foreign_file_is_an_error_that_names_file_and_column() {
        let dataset = tempfile::tempdir().unwrap();
        let missing = read_binary(dataset.path(), Split::Train).unwrap_err().to_string();
        assert!(missing.contains("prospect prepare"), "{missing}");
        write(dataset.path(), Split::Train, [row()].into_iter()).unwrap();
        fs_err::create_dir_all(dataset.path().join("dpo")).unwrap();
        fs_err::copy(
            path::<BinaryRow>(dataset.path(), Split::Train),
            path::<PairRow>(dataset.path(), Split::Train),
        )
        .unwrap();
        let wrong = read_pairs(dataset.path(), Split::Train).unwrap_err().to_string();
        assert!(wrong.contains("dpo/train-00000-of-00001.parquet: column `chosen` is missing"), "{wrong}");
        fs_err::write(path::<PairRow>(dataset.path(), Split::Train), "PAR1").unwrap();
        assert!(read_pairs(dataset.path(), Split::Train).is_err());
    }
}
