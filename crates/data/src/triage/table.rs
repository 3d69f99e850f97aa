//! `triage.parquet`: judgements with their scores, ranks and signals.

use std::{path::Path, sync::Arc};

use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use prospect_core::files::write_whole_at;

use super::TriageItem;
use crate::{
    DataError,
    output::parquet::columns::{flag, optional_number, optional_text, optional_text_array, text, text_array},
};

/// Results for a judgement.
#[derive(Debug, Clone, Copy)]
pub struct TriageRow<'a> {
    /// The judgement.
    pub item: &'a TriageItem,
    /// Fold that held it out; None without a model.
    pub fold: Option<usize>,
    /// Margin of a pair, or log-ratio of a thumb, under the policy of its fold, in nats; None if it
    /// was not scored.
    pub score: Option<f64>,
    /// Probability of the opposite label, calibrated on held-out judgements.
    pub disagreement: Option<f64>,
    /// Rank by disagreement, from 1; without a model, by signals. None if nothing speaks against
    /// the label.
    pub rank: Option<usize>,
}

impl TriageRow<'_> {
    /// Signals, joined by `+`, or `none`.
    pub fn signals(&self) -> String {
        match self.item.signals.as_slice() {
            [] => "none".to_owned(),
            signals => signals.iter().map(ToString::to_string).collect::<Vec<_>>().join("+"),
        }
    }
}

/// Writes the table, atomically.
pub fn write_table(path: &Path, rows: &[TriageRow<'_>]) -> Result<(), DataError> {
    let batch = batch(rows).map_err(DataError::Columns)?;
    let properties = WriterProperties::builder()
        .set_created_by("prospect".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    write_whole_at(path, |aside| {
        let file = fs_err::File::create(aside)?.into_file();
        let mut writer =
            ArrowWriter::try_new(file, batch.schema(), Some(properties)).map_err(DataError::parquet(path))?;
        writer.write(&batch).map_err(DataError::parquet(path))?;
        writer.close().map_err(DataError::parquet(path))?;
        Ok(())
    })
}

fn batch(rows: &[TriageRow<'_>]) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let whole = |name: &str| Field::new(name, DataType::Int64, true);
    let fields = vec![
        text("kind"),
        text("id"),
        flag("label"),
        text("prompt_id"),
        text("split"),
        text("source"),
        text("domain"),
        whole("fold"),
        optional_number("score"),
        optional_number("disagreement"),
        whole("rank"),
        text("signals"),
        optional_text("counterpart"),
    ];
    let texts = |get: &dyn Fn(&TriageItem) -> String| text_array(rows.iter().map(|row| get(row.item)));
    let numbers = |get: fn(&TriageRow<'_>) -> Option<f64>| -> ArrayRef {
        Arc::new(rows.iter().map(get).collect::<Float64Array>())
    };
    let counts = |get: fn(&TriageRow<'_>) -> Option<usize>| -> ArrayRef {
        Arc::new(
            rows.iter()
                .map(|row| get(row).and_then(|value| i64::try_from(value).ok()))
                .collect::<Int64Array>(),
        )
    };
    let arrays: Vec<ArrayRef> = vec![
        texts(&|item| item.kind.to_string()),
        texts(&|item| item.id.clone()),
        Arc::new(rows.iter().map(|row| Some(row.item.label)).collect::<BooleanArray>()),
        texts(&|item| item.prompt_id.clone()),
        texts(&|item| item.split.to_string()),
        texts(&|item| item.source.clone()),
        texts(&|item| item.domain.clone()),
        counts(|row| row.fold),
        numbers(|row| row.score),
        numbers(|row| row.disagreement),
        counts(|row| row.rank),
        text_array(rows.iter().map(TriageRow::signals)),
        optional_text_array(rows.iter().map(|row| row.item.counterpart.as_deref())),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
}
