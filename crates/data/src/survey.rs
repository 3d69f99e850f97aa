//! The first reading: what is known of every row without keeping its texts.

use std::io::Write;

use rayon::prelude::*;

use crate::{
    DataError,
    feedback::{Digest, Feedback},
    raw::{RawRow, Remark, Sink},
    reading::Reading,
};

/// Takes the rows of a source for the first time.
#[derive(Debug)]
pub(crate) struct Survey<W> {
    pub(crate) reading: Reading<W>,
    pub(crate) feedback: Feedback,
    /// Whether to sign prompts, so that they can be compared.
    sign: bool,
}

impl<W: Write> Survey<W> {
    /// Writes rejected rows to `rejected`; `strict` makes the first one an error. Signs prompts if they are to be
    /// compared.
    pub(crate) fn new(rejected: W, strict: bool, sign: bool) -> Self {
        Self { reading: Reading::new(rejected, strict), feedback: Feedback::default(), sign }
    }
}

impl<W: Write + Send> Sink for Survey<W> {
    fn rows(&mut self, rows: Vec<RawRow>) -> Result<(), DataError> {
        let sign = self.sign;
        let digests: Vec<Vec<Digest>> = rows
            .par_iter()
            .with_min_len(SOME)
            .map(|row| row.outcome.iter().flatten().map(|group| Digest::new(group, sign)).collect())
            .collect();
        for (row, digests) in rows.into_iter().zip(digests) {
            for (group, digest) in self.reading.take(row)?.iter().zip(digests) {
                self.feedback.add(digest, &group.source, &group.domain)?;
            }
        }
        Ok(())
    }

    fn remark(&mut self, remark: Remark, times: u64) {
        self.reading.remark(remark, times);
    }
}

/// Fewer rows than this are not worth another thread.
const SOME: usize = 32;
