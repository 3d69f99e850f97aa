//! The first pass over the input: counts of all rows by outcome, and the feedback table.

use std::io::Write;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    DataError,
    ingest::{
        digest::{DigestOptions, digest_group},
        raw::{RawGroup, RawRow, Remark, RowSink},
        rejections::RowTally,
    },
    table::feedback::{Feedback, GroupDigest},
};

/// Result of a first pass so far. `W` receives the rejected rows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FirstPass<W> {
    pub(crate) tally: RowTally<W>,
    pub(crate) feedback: Feedback,
    #[serde(skip)]
    options: DigestOptions,
}

impl<W: Write> FirstPass<W> {
    /// Starts a pass that writes rejected rows to `rejected`. With `strict`, the first rejected row
    /// is an error.
    pub(crate) fn new(rejected: W, strict: bool, options: DigestOptions) -> Self {
        Self { tally: RowTally::new(rejected, strict), feedback: Feedback::default(), options }
    }

    /// Counts and digests rows, and returns their groups.
    pub(crate) fn take(&mut self, rows: Vec<RawRow>) -> Result<Vec<RawGroup>, DataError> {
        let options = &self.options;
        let digests: Vec<Result<Vec<GroupDigest>, DataError>> = rows
            .par_iter()
            .with_min_len(MIN_ROWS_PER_THREAD)
            .map(|row| row.outcome.iter().flatten().map(|group| digest_group(group, options)).collect())
            .collect();
        let mut groups = Vec::new();
        for (row, digests) in rows.into_iter().zip(digests) {
            let first = groups.len();
            groups.extend(self.tally.take(row)?);
            for (group, digest) in groups[first..].iter().zip(digests?) {
                self.feedback.add(digest, &group.source, &group.domain)?;
            }
        }
        Ok(groups)
    }
}

impl FirstPass<Vec<u8>> {
    /// Returns the result so far and starts over with an empty one.
    pub(crate) fn split_off(&mut self) -> Self {
        let next = Self::new(Vec::new(), self.tally.strict, self.options.clone());
        std::mem::replace(self, next)
    }
}

impl<W: Write + Send> RowSink for FirstPass<W> {
    fn rows(&mut self, rows: Vec<RawRow>) -> Result<(), DataError> {
        self.take(rows).map(drop)
    }

    fn remark(&mut self, remark: Remark, times: u64) {
        self.tally.remark(remark, times);
    }
}

/// Fewer rows than this do not pay for another thread.
const MIN_ROWS_PER_THREAD: usize = 32;
