//! [`BinaryRow`] as parquet columns.

use std::{borrow::Cow, sync::Arc};

use arrow_array::{ArrayRef, BooleanArray, Float64Array};
use arrow_schema::{ArrowError, DataType, Field};

use super::{
    GROUP, ParquetRow,
    columns::{
        ColumnReader, flag, message_array, messages, optional_number, optional_text, optional_text_array,
        text, text_array,
    },
};
use crate::{
    BinaryRow, DataError, Message,
    table::{feedback::Origin, ids::Id},
};

/// [`BinaryRow`] to write, with borrowed texts.
pub(crate) struct BinaryRowRef<'a> {
    pub(crate) id: Id,
    pub(crate) prompt_id: Id,
    pub(crate) pair_id: Option<Id>,
    pub(crate) prompt: &'a [Message],
    pub(crate) completion: Cow<'a, [Message]>,
    pub(crate) label: bool,
    pub(crate) origin: &'a Origin,
    pub(crate) score: Option<f64>,
    pub(crate) original_label: bool,
    pub(crate) noise: Cow<'a, str>,
    pub(crate) weight: f64,
    pub(crate) group: Option<Id>,
}

impl ParquetRow for BinaryRow {
    const FOLDER: &'static str = "kto";
    type Borrowed<'a> = BinaryRowRef<'a>;

    fn fields() -> Vec<Field> {
        vec![
            messages("prompt"),
            messages("completion"),
            flag("label"),
            text("id"),
            text("prompt_id"),
            optional_text("pair_id"),
            text("source"),
            text("domain"),
            optional_number("score"),
            flag("original_label"),
            text("noise"),
            Field::new("weight", DataType::Float64, false),
        ]
    }

    fn to_arrays(rows: &[BinaryRowRef<'_>]) -> Result<Vec<ArrayRef>, ArrowError> {
        let flags = |get: fn(&BinaryRowRef<'_>) -> bool| {
            Arc::new(rows.iter().map(|row| Some(get(row))).collect::<BooleanArray>())
        };
        Ok(vec![
            message_array(rows.iter().map(|row| row.prompt))?,
            message_array(rows.iter().map(|row| &*row.completion))?,
            flags(|row| row.label),
            text_array(rows.iter().map(|row| row.id.digits())),
            text_array(rows.iter().map(|row| row.prompt_id.digits())),
            optional_text_array(rows.iter().map(|row| row.pair_id.map(Id::digits))),
            text_array(rows.iter().map(|row| &row.origin.source)),
            text_array(rows.iter().map(|row| &row.origin.domain)),
            Arc::new(rows.iter().map(|row| row.score).collect::<Float64Array>()),
            flags(|row| row.original_label),
            text_array(rows.iter().map(|row| &row.noise)),
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.weight))),
        ])
    }

    fn group(row: &BinaryRowRef<'_>) -> Option<Id> {
        row.group
    }

    fn from_columns(columns: &ColumnReader<'_>) -> Result<Vec<Self>, DataError> {
        let mut prompt = columns.messages("prompt")?.into_iter();
        let mut completion = columns.messages("completion")?.into_iter();
        let mut label = columns.flags("label")?.into_iter();
        let mut prompt_id = columns.text("prompt_id")?.into_iter();
        let mut pair_id = columns.optional_text("pair_id")?.into_iter();
        let mut source = columns.text("source")?.into_iter();
        let mut domain = columns.text("domain")?.into_iter();
        let mut score = columns.optional_numbers("score")?.into_iter();
        let mut original_label = columns.flags("original_label")?.into_iter();
        let mut noise = columns.text("noise")?.into_iter();
        let mut weight = columns.numbers("weight")?.into_iter();
        let mut group = columns.optional_column(GROUP)?.into_iter();
        // All columns of a batch have the same length, so all iterators end together.
        let mut row = |id| {
            Some(Self {
                id,
                prompt_id: prompt_id.next()?,
                pair_id: pair_id.next()?,
                prompt: prompt.next()?,
                completion: completion.next()?,
                label: label.next()?,
                source: source.next()?,
                domain: domain.next()?,
                score: score.next()?,
                original_label: original_label.next()?,
                noise: noise.next()?,
                weight: weight.next()?,
                group: group.next()?,
            })
        };
        Ok(columns.text("id")?.into_iter().map_while(&mut row).collect())
    }
}
