//! [`PairRow`] as parquet columns.

use std::{borrow::Cow, sync::Arc};

use arrow_array::{ArrayRef, BooleanArray, Float64Array};
use arrow_schema::{ArrowError, Field};

use super::{
    GROUP, ParquetRow,
    columns::{ColumnReader, flag, message_array, messages, optional_number, text, text_array},
};
use crate::{
    DataError, Message, PairRow,
    table::{feedback::Origin, ids::Id},
};

/// [`PairRow`] to write, with borrowed texts.
pub(crate) struct PairRowRef<'a> {
    pub(crate) pair_id: Id,
    pub(crate) prompt_id: Id,
    pub(crate) prompt: &'a [Message],
    pub(crate) chosen: Cow<'a, [Message]>,
    pub(crate) rejected: Cow<'a, [Message]>,
    pub(crate) origin: &'a Origin,
    pub(crate) score_chosen: Option<f64>,
    pub(crate) score_rejected: Option<f64>,
    pub(crate) noise: Cow<'a, str>,
    pub(crate) swapped: bool,
    pub(crate) group: Option<Id>,
}

impl ParquetRow for PairRow {
    const FOLDER: &'static str = "dpo";
    type Borrowed<'a> = PairRowRef<'a>;

    fn fields() -> Vec<Field> {
        vec![
            messages("prompt"),
            messages("chosen"),
            messages("rejected"),
            text("pair_id"),
            text("prompt_id"),
            text("source"),
            text("domain"),
            optional_number("score_chosen"),
            optional_number("score_rejected"),
            text("noise"),
            flag("swapped"),
        ]
    }

    fn to_arrays(rows: &[PairRowRef<'_>]) -> Result<Vec<ArrayRef>, ArrowError> {
        Ok(vec![
            message_array(rows.iter().map(|row| row.prompt))?,
            message_array(rows.iter().map(|row| &*row.chosen))?,
            message_array(rows.iter().map(|row| &*row.rejected))?,
            text_array(rows.iter().map(|row| row.pair_id.digits())),
            text_array(rows.iter().map(|row| row.prompt_id.digits())),
            text_array(rows.iter().map(|row| &row.origin.source)),
            text_array(rows.iter().map(|row| &row.origin.domain)),
            Arc::new(rows.iter().map(|row| row.score_chosen).collect::<Float64Array>()),
            Arc::new(rows.iter().map(|row| row.score_rejected).collect::<Float64Array>()),
            text_array(rows.iter().map(|row| &row.noise)),
            Arc::new(rows.iter().map(|row| Some(row.swapped)).collect::<BooleanArray>()),
        ])
    }

    fn group(row: &PairRowRef<'_>) -> Option<Id> {
        row.group
    }

    fn from_columns(columns: &ColumnReader<'_>) -> Result<Vec<Self>, DataError> {
        let mut prompt_id = columns.text("prompt_id")?.into_iter();
        let mut prompt = columns.messages("prompt")?.into_iter();
        let mut chosen = columns.messages("chosen")?.into_iter();
        let mut rejected = columns.messages("rejected")?.into_iter();
        let mut source = columns.text("source")?.into_iter();
        let mut domain = columns.text("domain")?.into_iter();
        let mut score_chosen = columns.optional_numbers("score_chosen")?.into_iter();
        let mut score_rejected = columns.optional_numbers("score_rejected")?.into_iter();
        let mut noise = columns.text("noise")?.into_iter();
        let mut swapped = columns.flags("swapped")?.into_iter();
        let mut group = columns.optional_column(GROUP)?.into_iter();
        // All columns of a batch have the same length, so all iterators end together.
        let mut row = |pair_id| {
            Some(Self {
                pair_id,
                prompt_id: prompt_id.next()?,
                prompt: prompt.next()?,
                chosen: chosen.next()?,
                rejected: rejected.next()?,
                source: source.next()?,
                domain: domain.next()?,
                score_chosen: score_chosen.next()?,
                score_rejected: score_rejected.next()?,
                noise: noise.next()?,
                swapped: swapped.next()?,
                group: group.next()?,
            })
        };
        Ok(columns.text("pair_id")?.into_iter().map_while(&mut row).collect())
    }
}
