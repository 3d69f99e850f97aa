//! Writing parquet files.

use std::{io::Write, path::Path, sync::Arc};

use arrow_array::RecordBatch;
use arrow_schema::Schema;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use prospect_core::files::write_whole;
use prospect_runs::SweepDir;

use crate::{QueryError, sweep::run_tables};

/// Writes the tables of a sweep's runs as `NAME.parquet` into a folder.
///
/// Texts are plain strings, and columns without missing values are not nullable, so that pandas,
/// polars and other tools read them without a conversion.
pub fn write_tables(sweep: &SweepDir, folder: &Path) -> Result<(), QueryError> {
    for table in run_tables(sweep, &sweep.experiment()?)? {
        let file = folder.join(format!("{}.parquet", table.name));
        write_batches(&file, Arc::new(table.schema()), &table.read_all()?)?;
    }
    Ok(())
}

/// Writes batches of this schema as a parquet file, atomically.
pub(crate) fn write_batches(
    file: &Path,
    schema: Arc<Schema>,
    batches: &[RecordBatch],
) -> Result<(), QueryError> {
    let properties = WriterProperties::builder()
        .set_created_by("prospect".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    let write = || {
        let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
        batches.iter().try_for_each(|batch| writer.write(batch))?;
        writer.into_inner()
    };
    let bytes = write().map_err(|source| QueryError::Parquet { file: file.to_owned(), source })?;
    if let Some(folder) = file.parent() {
        fs_err::create_dir_all(folder)?;
    }
    Ok(write_whole(file, |out| out.write_all(&bytes))?)
}
