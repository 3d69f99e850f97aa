//! The first reading: what is known of every row without keeping its texts.

use std::io::Write;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    DataError,
    feedback::{Digest, Feedback, Measure},
    raw::{RawGroup, RawRow, Remark, Sink},
    reading::Reading,
};

/// Takes the rows of a source for the first time.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Survey<W> {
    pub(crate) reading: Reading<W>,
    pub(crate) feedback: Feedback,
    #[serde(skip)]
    measure: Measure,
}

impl<W: Write> Survey<W> {
    /// Writes rejected rows to `rejected`; `strict` makes the first one an error.
    pub(crate) fn new(rejected: W, strict: bool, measure: Measure) -> Self {
        Self { reading: Reading::new(rejected, strict), feedback: Feedback::default(), measure }
    }

    /// Takes the next rows of the input; gives their groups.
    pub(crate) fn take(&mut self, rows: Vec<RawRow>) -> Result<Vec<RawGroup>, DataError> {
        let measure = &self.measure;
        let digests: Vec<Result<Vec<Digest>, DataError>> = rows
            .par_iter()
            .with_min_len(SOME)
            .map(|row| row.outcome.iter().flatten().map(|group| Digest::new(group, measure)).collect())
            .collect();
        let mut groups = Vec::new();
        for (row, digests) in rows.into_iter().zip(digests) {
            let first = groups.len();
            groups.extend(self.reading.take(row)?);
            for (group, digest) in groups[first..].iter().zip(digests?) {
                self.feedback.add(digest, &group.source, &group.domain)?;
            }
        }
        Ok(groups)
    }
}

impl Survey<Vec<u8>> {
    /// What was found so far; the survey goes on with nothing.
    pub(crate) fn split_off(&mut self) -> Self {
        let next = Self::new(Vec::new(), self.reading.strict, self.measure.clone());
        std::mem::replace(self, next)
    }
}

impl<W: Write + Send> Sink for Survey<W> {
    fn rows(&mut self, rows: Vec<RawRow>) -> Result<(), DataError> {
        self.take(rows).map(drop)
    }

    fn remark(&mut self, remark: Remark, times: u64) {
        self.reading.remark(remark, times);
    }
}

/// Fewer rows than this are not worth another thread.
const SOME: usize = 32;
