//! The second reading: the rows that are left, with their texts, to the files of the dataset.

use std::{borrow::Cow, path::Path};

use arrow::array::RecordBatch;
use rayon::prelude::*;

use crate::{
    BinaryRow, DataError, Message, PairRow, Split,
    feedback::{Feedback, Pair, Row},
    parquet_file::{self, Tables, binary::BinaryOut, pair::PairOut},
    raw::{RawGroup, RawRow, Remark, Sink},
};

/// Takes the rows of a source for the second time.
pub(crate) struct Writing<'a> {
    rows: Rows<'a>,
    tables: Tables,
    /// The group that comes next.
    next: usize,
}

/// Makes what is known of rows, with their texts, the rows of the files.
struct Rows<'a> {
    feedback: &'a Feedback,
}

/// Groups made into columns at a time.
const BATCH: usize = 256;

impl<'a> Writing<'a> {
    /// Starts the files of `dataset`.
    pub(crate) fn new(dataset: &Path, feedback: &'a Feedback) -> Result<Self, DataError> {
        Ok(Self { rows: Rows { feedback }, tables: Tables::create(dataset)?, next: 0 })
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
            let kept = self.feedback.rows[self.feedback.rows_of(index)].iter().filter(|row| row.kept);
            rows.extend(kept.map(|row| self.binary(row, group)));
            let whole = self.feedback.pairs[self.feedback.pairs_of(index)]
                .iter()
                .filter(|pair| self.feedback.whole(pair));
            pairs.extend(whole.map(|pair| self.pair(pair, group)));
        }
        let rows = parquet_file::batch::<BinaryRow>(&rows).map_err(DataError::Columns)?;
        let pairs = parquet_file::batch::<PairRow>(&pairs).map_err(DataError::Columns)?;
        Ok((rows, pairs))
    }

    fn binary<'b>(&'b self, row: &Row, group: &'b RawGroup) -> BinaryOut<'b> {
        let about = self.feedback.group(row);
        BinaryOut {
            id: row.id,
            prompt_id: about.prompt,
            pair_id: self.feedback.pair(row).map(|pair| pair.id),
            prompt: &group.prompt,
            completion: completion(row, group),
            label: row.label(),
            origin: &self.feedback.origins[usize::from(about.origin)],
            score: row.score(),
            original_label: row.original_label,
            noise: row.noisy.name().into(),
            weight: 1.0,
        }
    }

    fn pair<'b>(&'b self, pair: &Pair, group: &'b RawGroup) -> PairOut<'b> {
        let [mut chosen, mut rejected] = self.feedback.sides(pair);
        let swapped = self.feedback.swapped(pair);
        if swapped {
            std::mem::swap(&mut chosen, &mut rejected);
        }
        let about = self.feedback.group(chosen);
        PairOut {
            pair_id: pair.id,
            prompt_id: about.prompt,
            prompt: &group.prompt,
            chosen: completion(chosen, group),
            rejected: completion(rejected, group),
            origin: &self.feedback.origins[usize::from(about.origin)],
            score_chosen: chosen.score(),
            score_rejected: rejected.score(),
            noise: (if swapped { "flip" } else { "none" }).into(),
            swapped,
        }
    }
}

fn completion<'b>(row: &Row, group: &'b RawGroup) -> Cow<'b, [Message]> {
    Cow::Borrowed(&group.completions[row.completion as usize].messages)
}

impl Sink for Writing<'_> {
    fn rows(&mut self, rows: Vec<RawRow>) -> Result<(), DataError> {
        let groups: Vec<RawGroup> = rows.into_iter().filter_map(|row| row.outcome.ok()).flatten().collect();
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

    fn remark(&mut self, _remark: Remark, _times: u64) {}
}
