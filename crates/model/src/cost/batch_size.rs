//! Sizes of a batch, which memory and arithmetic depend on.

use serde::Serialize;

use crate::PackedBatch;

/// Sizes of a micro-batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BatchSize {
    /// Number of rows: the tokens of prompts, counted once, and of completions without their last.
    pub rows: u64,
    /// Number of rows that may receive a gradient.
    pub gradient_rows: u64,
    /// Number of completion tokens.
    pub scored: u64,
    /// Number of completion tokens that may receive a gradient.
    pub gradient_scored: u64,
    /// Length of the longest sequence.
    pub longest: u64,
    /// Sum over rows of the number of rows each attends to, itself included.
    pub attended: u64,
    /// The same sum over rows that may receive a gradient.
    pub gradient_attended: u64,
}

impl From<&PackedBatch> for BatchSize {
    fn from(batch: &PackedBatch) -> Self {
        // A row attends to its prompt and its own branch up to itself: position + 1 rows.
        let attended = |positions: &[u32]| positions.iter().map(|position| u64::from(*position) + 1).sum();
        Self {
            rows: batch.rows() as u64,
            gradient_rows: batch.gradient_rows as u64,
            scored: batch.scored.len() as u64,
            gradient_scored: batch.gradient_scored as u64,
            longest: batch.positions.iter().max().map_or(0, |last| u64::from(*last) + 1),
            attended: attended(&batch.positions),
            gradient_attended: attended(&batch.positions[..batch.gradient_rows]),
        }
    }
}
