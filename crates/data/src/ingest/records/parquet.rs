//! Parquet: each row becomes a JSON object without its null columns.
//!
//! Only the columns asked for are read, so that neither the type nor the codec of others matters.

use std::path::Path;

use ::parquet::{
    arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::Compression,
};
use fs_err::File;

use crate::{
    DataError,
    ingest::records::{
        FileNotes, RecordHandler,
        arrow::{self, is_wanted},
    },
};

/// Rows converted to JSON at a time.
const BATCH: usize = 256;

#[expect(
    clippy::disallowed_types,
    reason = "parquet's reader takes no fs_err::File; errors of opening name the path"
)]
type Builder = ParquetRecordBatchReaderBuilder<std::fs::File>;

fn open(path: &Path) -> Result<Builder, DataError> {
    let file = File::open(path)?.into_file();
    arrow::undamaged(path, || Builder::try_new(file))?.map_err(DataError::parquet(path))
}

/// Returns the names of the top-level columns.
pub(super) fn column_names(path: &Path) -> Result<Vec<String>, DataError> {
    let builder = open(path)?;
    let columns = builder.parquet_schema().root_schema().get_fields().iter();
    Ok(columns.map(|column| column.name().to_owned()).collect())
}

/// Calls `each` for every row, with the columns of these names, or all if None.
pub(super) fn read(
    path: &Path,
    columns: Option<&[String]>,
    each: &mut RecordHandler<'_>,
) -> Result<FileNotes, DataError> {
    let builder = open(path)?;
    let mask = projection(&builder, columns);
    check_codecs(path, &builder, &mask)?;
    let builder = builder.with_projection(mask).with_batch_size(BATCH);
    let reader = arrow::undamaged(path, || builder.build())?.map_err(DataError::parquet(path))?;
    arrow::rows(path, reader, each)
}

/// Selects columns by name. A name with dots may be that of a column or a path into one.
fn projection(builder: &Builder, columns: Option<&[String]>) -> ProjectionMask {
    let Some(columns) = columns else { return ProjectionMask::all() };
    let wants = |name: &str| is_wanted(columns, name);
    let schema = builder.parquet_schema();
    let fields = schema.root_schema().get_fields().iter().enumerate();
    ProjectionMask::roots(schema, fields.filter(|(_, field)| wants(field.name())).map(|(index, _)| index))
}

/// Fails if a selected column is compressed with a codec that is not supported.
fn check_codecs(path: &Path, builder: &Builder, mask: &ProjectionMask) -> Result<(), DataError> {
    for group in builder.metadata().row_groups() {
        for (index, column) in group.columns().iter().enumerate() {
            let codec = match column.compression() {
                Compression::BROTLI(_) => "brotli",
                Compression::LZO => "lzo",
                _ => continue,
            };
            if mask.leaf_included(index) {
                let message = format!(
                    "column `{}` is compressed with {codec}, which is not supported; write the file with zstd, snappy, \
                     gzip, lz4 or no compression",
                    column.column_path().string()
                );
                return Err(DataError::Table { file: path.to_owned(), message });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ::parquet::{
        arrow::ArrowWriter,
        basic::{GzipLevel, ZstdLevel},
        file::properties::WriterProperties,
    };
    use arrow_array::{
        ArrayRef, BinaryArray, BooleanArray, DictionaryArray, DurationSecondArray, Float16Array, Int8Array,
        RecordBatch, StringArray, TimestampNanosecondArray, types::Int8Type,
    };

    use super::*;
    use crate::ingest::records::{FileFormat, for_each_record, tests::records};

    fn file(columns: Vec<(&str, ArrayRef)>, codec: Compression) -> Vec<u8> {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let properties = WriterProperties::builder().set_compression(codec).build();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        bytes
    }

    fn text(text: &str) -> ArrayRef {
        Arc::new(StringArray::from(vec![text]))
    }

    #[test]
    fn rows_become_objects_without_their_nulls() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a\n\"b\""), None]));
        let labels: ArrayRef = Arc::new(BooleanArray::from(vec![true, false]));
        let bytes = file(vec![("text", texts), ("label", labels)], Compression::UNCOMPRESSED);
        let (rows, _) = records("told-by-content.json", &bytes).unwrap();
        let expected = [
            (1, Ok(r#"{"text":"a\n\"b\"","label":true}"#.to_owned())),
            (2, Ok(r#"{"label":false}"#.to_owned())),
        ];
        assert_eq!(rows, expected);
        assert!(records("cut.parquet", &bytes[..bytes.len() / 2]).is_err());
    }

    #[test]
    fn no_damaged_file_panics() {
        let labels: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), None]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "bc"]));
        let original = file(vec![("prompt", texts), ("label", labels)], Compression::SNAPPY);
        for round in 0..prospect_testkit::fuzz_rounds(200) {
            // An error is as good as rows.
            let _ = records("a.parquet", &prospect_testkit::mutated(&original, round));
        }
    }

    #[test]
    fn codecs_of_other_tools_are_read() {
        for codec in [
            Compression::SNAPPY,
            Compression::GZIP(GzipLevel::default()),
            Compression::LZ4,
            Compression::LZ4_RAW,
            Compression::ZSTD(ZstdLevel::default()),
        ] {
            let long = "again and ".repeat(100);
            let (rows, _) = records("a.parquet", &file(vec![("text", text(&long))], codec)).unwrap();
            assert_eq!(rows[0].1.as_ref().unwrap(), &format!("{{\"text\":\"{long}\"}}"), "{codec:?}");
        }
    }

    #[test]
    fn columns_of_any_type_are_read() {
        let dictionary: DictionaryArray<Int8Type> = ["up"].into_iter().collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("label", Arc::new(dictionary)),
            ("half", Arc::new(Float16Array::from_iter_values([half::f16::ONE]))),
            ("byte", Arc::new(Int8Array::from(vec![-1]))),
            ("at", Arc::new(TimestampNanosecondArray::from(vec![1]))),
            ("took", Arc::new(DurationSecondArray::from(vec![90]))),
            ("text", Arc::new(BinaryArray::from_vec(vec!["grün".as_bytes()]))),
            ("raw", Arc::new(BinaryArray::from_vec(vec![b"\xff\xd8"]))),
        ];
        let (rows, _) = records("a.parquet", &file(columns, Compression::SNAPPY)).unwrap();
        let expected = r#"{"label":"up","half":1.0,"byte":-1,"at":"1970-01-01T00:00:00.000000001","took":90,"text":"grün","raw":{"bytes":2}}"#;
        assert_eq!(rows, [(1, Ok(expected.to_owned()))]);
    }

    #[test]
    fn columns_that_nobody_asked_for_do_not_matter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let columns = vec![("meta.score", text("1")), ("prompt", text("p")), ("image", text("x"))];
        let mut bytes = file(columns, Compression::SNAPPY);
        // In the footer, a column's codec follows its name: snappy becomes brotli.
        let codec = bytes.windows(7).position(|part| part == b"image\x15\x02").unwrap() + 6;
        bytes[codec] = 8;
        fs_err::write(&path, &bytes).unwrap();
        let read = |columns: Option<&[String]>| {
            let mut rows = Vec::new();
            for_each_record(&path, FileFormat::default(), columns, &mut |_, row| {
                rows.push(String::from_utf8(row.unwrap().to_vec()).unwrap());
                Ok(())
            })?;
            Ok::<_, DataError>(rows)
        };
        let wanted = ["prompt", "meta.score.x", "absent"].map(str::to_owned);
        assert_eq!(read(Some(&wanted)).unwrap(), [r#"{"meta.score":"1","prompt":"p"}"#]);
        let error = read(None).unwrap_err().to_string();
        assert!(error.contains("column `image` is compressed with brotli"), "{error}");
    }
}
