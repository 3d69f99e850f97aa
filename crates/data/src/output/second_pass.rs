//! The second reading: the rows that are left, with their texts, to the files of the dataset.

use std::{borrow::Cow, path::Path};

use arrow::array::RecordBatch;
use rayon::prelude::*;

use crate::{
    BinaryRow, DataError, Message, PairRow, Split,
    donors::Donors,
    feedback::{Feedback, Pair},
    noise::{Noisy, Spoiler},
    parquet_file::{self, Tables, binary::BinaryOut, pair::PairOut},
    raw::{RawGroup, Texts},
};

/// Takes the groups of a source for the second time.
pub(crate) struct Writing<'a> {
    rows: Rows<'a>,
    tables: Tables,
    /// The group that comes next.
    next: usize,
}

/// Makes what is known of rows, with their texts, the rows of the files.
struct Rows<'a> {
    feedback: &'a Feedback,
    spoiler: Spoiler,
    donors: Option<&'a Donors>,
}

/// Groups made into columns at a time.
const BATCH: usize = 256;

impl<'a> Writing<'a> {
    /// Starts the files of `dataset`. `donors` has the completions that noise gives to other rows, if there are any.
    pub(crate) fn new(
        dataset: &Path,
        feedback: &'a Feedback,
        spoiler: Spoiler,
        donors: Option<&'a Donors>,
    ) -> Result<Self, DataError> {
        Ok(Self { rows: Rows { feedback, spoiler, donors }, tables: Tables::create(dataset)?, next: 0 })
    }

    /// Ends the files.
    pub(crate) fn finish(self) -> Result<(), DataError> {
        if self.next < self.rows.feedback.groups.len() {
            return Err(DataError::InputChanged);
        }
        self.tables.finish()
    }
}

impl Rows<'_> {
    /// The rows and pairs of a split in some groups, of which the first has an index.
    fn batches(
        &self,
        first: usize,
        groups: &[RawGroup],
        split: Split,
    ) -> Result<(RecordBatch, RecordBatch), DataError> {
        let (mut rows, mut pairs) = (Vec::new(), Vec::new());
        for (index, group) in (first..).zip(groups) {
            if self.feedback.groups[index].split.unwrap_or(Split::Train) != split {
                continue;
            }
            // The first reading decided about the groups it saw: these have to be the same ones.
            if !self.feedback.fits(index, group) {
                return Err(DataError::InputChanged);
            }
            for row in self.feedback.rows_of(index).filter(|row| self.feedback.rows[*row].kept) {
                rows.push(self.binary(row as u32, group)?);
            }
            for pair in &self.feedback.pairs[self.feedback.pairs_of(index)] {
                if self.feedback.whole(pair) {
                    pairs.push(self.pair(pair, group)?);
                }
            }
        }
        let rows = parquet_file::batch::<BinaryRow>(&rows).map_err(DataError::Columns)?;
        let pairs = parquet_file::batch::<PairRow>(&pairs).map_err(DataError::Columns)?;
        Ok((rows, pairs))
    }

    fn binary<'b>(&'b self, index: u32, group: &'b RawGroup) -> Result<BinaryOut<'b>, DataError> {
        let row = &self.feedback.rows[index as usize];
        Ok(BinaryOut {
            id: row.id,
            prompt_id: self.feedback.group(row).prompt,
            pair_id: self.feedback.pair(row).map(|pair| pair.id),
            prompt: &group.prompt,
            completion: self.completion(index, group)?,
            label: row.label(),
            origin: self.feedback.origin_of(row),
            score: row.score(),
            original_label: row.original_label,
            noise: Noisy::names(&[row.noisy]),
            weight: 1.0,
        })
    }

    fn pair<'b>(&'b self, pair: &Pair, group: &'b RawGroup) -> Result<PairOut<'b>, DataError> {
        let swapped = self.feedback.swapped(pair);
        let (chosen, rejected) =
            if swapped { (pair.rejected, pair.chosen) } else { (pair.chosen, pair.rejected) };
        let [chosen_row, rejected_row] = [chosen, rejected].map(|index| &self.feedback.rows[index as usize]);
        Ok(PairOut {
            pair_id: pair.id,
            prompt_id: self.feedback.group(chosen_row).prompt,
            prompt: &group.prompt,
            chosen: self.completion(chosen, group)?,
            rejected: self.completion(rejected, group)?,
            origin: self.feedback.origin_of(chosen_row),
            score_chosen: chosen_row.score(),
            score_rejected: rejected_row.score(),
            noise: Noisy::names(&[chosen_row.noisy, rejected_row.noisy]),
            swapped,
        })
    }

    /// The completion of a row after noise.
    fn completion<'b>(&self, index: u32, group: &'b RawGroup) -> Result<Cow<'b, [Message]>, DataError> {
        let row = &self.feedback.rows[index as usize];
        if let Some(donors) = self.donors
            && let Ok(place) = self.feedback.donors.binary_search_by_key(&index, |(row, _)| *row)
        {
            return Ok(Cow::Owned(donors.get(self.feedback.donors[place].1)?));
        }
        Ok(self.spoiler.spoil(row, &group.completions[row.completion as usize].messages))
    }
}

impl Texts for Writing<'_> {
    fn groups(&mut self, groups: Vec<RawGroup>) -> Result<(), DataError> {
        let first = self.next;
        self.next += groups.len();
        if self.next > self.rows.feedback.groups.len() {
            return Err(DataError::InputChanged);
        }
        let work: Vec<(usize, &[RawGroup], Split)> = groups
            .chunks(BATCH)
            .enumerate()
            .flat_map(|(index, groups)| Split::ALL.map(|split| (first + index * BATCH, groups, split)))
            .collect();
        let source = &self.rows;
        let batches: Vec<_> =
            work.par_iter().map(|(first, groups, split)| source.batches(*first, groups, *split)).collect();
        for ((.., split), batches) in work.into_iter().zip(batches) {
            let (rows, pairs) = batches?;
            self.tables.push::<BinaryRow>(split, rows)?;
            self.tables.push::<PairRow>(split, pairs)?;
        }
        Ok(())
    }
}
