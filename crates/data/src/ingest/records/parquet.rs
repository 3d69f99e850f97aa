//! Parquet: each row becomes a JSON object without its null columns.

use std::path::Path;

use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use fs_err::File;

use crate::{
    DataError,
    ingest::records::{FileNotes, MAX_RECORD_BYTES, RecordHandler, lines::too_long, parquet_json},
};

/// Rows converted to JSON at a time.
const BATCH: usize = 256;

/// Calls `each` for every row.
pub(super) fn read(path: &Path, each: &mut RecordHandler<'_>) -> Result<FileNotes, DataError> {
    let file = File::open(path)?.into_file();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(|builder| builder.with_batch_size(BATCH).build())
        .map_err(DataError::parquet(path))?;
    let mut number = 0;
    for batch in reader {
        let batch = batch.map_err(DataError::arrow(path))?;
        for row in 0..batch.num_rows() {
            number += 1;
            let line = parquet_json::row(&batch, row).to_string();
            each(number, if line.len() > MAX_RECORD_BYTES { Err(too_long()) } else { Ok(line.as_bytes()) })?;
        }
    }
    Ok(FileNotes::default())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, BooleanArray, RecordBatch, StringArray};

    use crate::ingest::records::tests::records;

    #[test]
    fn rows_become_objects_without_their_nulls() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a\n\"b\""), None]));
        let labels: ArrayRef = Arc::new(BooleanArray::from(vec![true, false]));
        let batch = RecordBatch::try_from_iter([("text", texts), ("label", labels)]).unwrap();
        let mut bytes = Vec::new();
        let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let (rows, _) = records("told-by-content.json", &bytes).unwrap();
        let expected = [
            (1, Ok(r#"{"text":"a\n\"b\"","label":true}"#.to_owned())),
            (2, Ok(r#"{"label":false}"#.to_owned())),
        ];
        assert_eq!(rows, expected);
        assert!(records("cut.parquet", &bytes[..bytes.len() / 2]).is_err());
    }
}
