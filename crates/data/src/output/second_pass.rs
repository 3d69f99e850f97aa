//! The second pass over the input: writes the kept rows, with their texts, to the parquet files.

use std::{borrow::Cow, path::Path};

use arrow_array::RecordBatch;
use rayon::prelude::*;

use crate::{
    BinaryRow, DataError, Message, PairRow, Split,
    ingest::{
        digest::matches_table,
        raw::{GroupSink, RawGroup},
    },
    output::{
        completion_store::CompletionStore,
        parquet::{self, DatasetWriter, binary_rows::BinaryRowRef, pair_rows::PairRowRef},
    },
    steps::noise::TextCorruptor,
    table::{
        corruption::Corruption,
        feedback::{Feedback, FeedbackPair},
    },
};

/// Receives the groups of the second pass and writes the dataset.
pub(crate) struct SecondPass<'a> {
    rows: RowBuilder<'a>,
    files: DatasetWriter,
    /// Index of the next group.
    next: usize,
}

/// Joins the table with the texts of the second pass.
struct RowBuilder<'a> {
    feedback: &'a Feedback,
    /// True if any source gives groups.
    groups: bool,
    corruptor: TextCorruptor,
    donors: Option<&'a CompletionStore>,
}

/// Consecutive groups whose rows become columns together.
struct GroupBatch<'a> {
    /// Index of the first group.
    first: usize,
    groups: &'a [RawGroup],
    split: Split,
}

/// Rows and pairs of a [`GroupBatch`] as columns.
struct ColumnBatches {
    rows: RecordBatch,
    pairs: RecordBatch,
}

/// Groups in a [`GroupBatch`].
const BATCH_GROUPS: usize = 256;

impl<'a> SecondPass<'a> {
    /// Creates the files of `dataset`. `donors` has the completions that shuffled rows receive, if
    /// there are any.
    pub(crate) fn new(
        dataset: &Path,
        feedback: &'a Feedback,
        corruptor: TextCorruptor,
        donors: Option<&'a CompletionStore>,
    ) -> Result<Self, DataError> {
        let groups = feedback.has_groups();
        let rows = RowBuilder { feedback, groups, corruptor, donors };
        Ok(Self { rows, files: DatasetWriter::create(dataset, groups)?, next: 0 })
    }

    /// Closes the files. Fails if groups are missing.
    pub(crate) fn finish(self) -> Result<(), DataError> {
        if self.next < self.rows.feedback.groups.len() {
            return Err(DataError::InputChanged);
        }
        self.files.finish()
    }
}

impl RowBuilder<'_> {
    fn batches(&self, batch: &GroupBatch<'_>) -> Result<ColumnBatches, DataError> {
        let (mut rows, mut pairs) = (Vec::new(), Vec::new());
        for (index, group) in (batch.first..).zip(batch.groups) {
            if self.feedback.groups[index].split.unwrap_or(Split::Train) != batch.split {
                continue;
            }
            if !matches_table(self.feedback, index, group) {
                return Err(DataError::InputChanged);
            }
            for row in self.feedback.group_rows(index).filter(|row| self.feedback.rows[*row].kept) {
                rows.push(self.binary_row(row as u32, group)?);
            }
            for pair in &self.feedback.pairs[self.feedback.group_pairs(index)] {
                if self.feedback.is_whole(pair) {
                    pairs.push(self.pair_row(pair, group)?);
                }
            }
        }
        Ok(ColumnBatches {
            rows: parquet::record_batch::<BinaryRow>(&rows, self.groups).map_err(DataError::Columns)?,
            pairs: parquet::record_batch::<PairRow>(&pairs, self.groups).map_err(DataError::Columns)?,
        })
    }

    fn binary_row<'b>(&'b self, index: u32, group: &'b RawGroup) -> Result<BinaryRowRef<'b>, DataError> {
        let row = &self.feedback.rows[index as usize];
        Ok(BinaryRowRef {
            id: row.id,
            prompt_id: self.feedback.group(row).prompt,
            pair_id: self.feedback.pair(row).map(|pair| pair.id),
            prompt: &group.prompt,
            completion: self.completion(index, group)?,
            label: row.label(),
            origin: self.feedback.origin(row),
            score: row.score(),
            original_label: row.original_label,
            noise: Corruption::column_value(&[row.corruption]),
            weight: 1.0,
            group: self.feedback.log(row.group as usize).group,
        })
    }

    fn pair_row<'b>(&'b self, pair: &FeedbackPair, group: &'b RawGroup) -> Result<PairRowRef<'b>, DataError> {
        let swapped = self.feedback.is_swapped(pair);
        let (chosen, rejected) =
            if swapped { (pair.rejected, pair.chosen) } else { (pair.chosen, pair.rejected) };
        let [chosen_row, rejected_row] = [chosen, rejected].map(|index| &self.feedback.rows[index as usize]);
        Ok(PairRowRef {
            pair_id: pair.id,
            prompt_id: self.feedback.group(chosen_row).prompt,
            prompt: &group.prompt,
            chosen: self.completion(chosen, group)?,
            rejected: self.completion(rejected, group)?,
            origin: self.feedback.origin(chosen_row),
            score_chosen: chosen_row.score(),
            score_rejected: rejected_row.score(),
            noise: Corruption::column_value(&[chosen_row.corruption, rejected_row.corruption]),
            swapped,
            group: self.feedback.log(chosen_row.group as usize).group,
        })
    }

    /// Returns the completion of a row after noise.
    fn completion<'b>(&self, index: u32, group: &'b RawGroup) -> Result<Cow<'b, [Message]>, DataError> {
        let row = &self.feedback.rows[index as usize];
        if let Some(donors) = self.donors
            && let Ok(position) = self.feedback.donors.binary_search_by_key(&index, |(row, _)| *row)
        {
            return Ok(Cow::Owned(donors.get(self.feedback.donors[position].1)?));
        }
        Ok(self.corruptor.corrupt(row, &group.completions[row.completion as usize].messages))
    }
}

impl GroupSink for SecondPass<'_> {
    fn groups(&mut self, groups: Vec<RawGroup>) -> Result<(), DataError> {
        let first = self.next;
        self.next += groups.len();
        if self.next > self.rows.feedback.groups.len() {
            return Err(DataError::InputChanged);
        }
        let batches: Vec<GroupBatch<'_>> = groups
            .chunks(BATCH_GROUPS)
            .enumerate()
            .flat_map(|(index, groups)| {
                Split::ALL.map(|split| GroupBatch { first: first + index * BATCH_GROUPS, groups, split })
            })
            .collect();
        let columns: Vec<_> = batches.par_iter().map(|batch| self.rows.batches(batch)).collect();
        for (batch, columns) in batches.into_iter().zip(columns) {
            let ColumnBatches { rows, pairs } = columns?;
            self.files.push::<BinaryRow>(batch.split, rows)?;
            self.files.push::<PairRow>(batch.split, pairs)?;
        }
        Ok(())
    }
}
