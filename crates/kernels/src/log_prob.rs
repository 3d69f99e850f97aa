//! Log-probs of target tokens, log softmax(logits)\[target\], with the vocabulary in chunks of
//! columns.
//!
//! The whole `[rows, vocabulary]` logits need not exist at once. Each row keeps three values
//! between chunks: the highest logit, Σ exp(logit − highest), and the target's logit. The backward
//! pass needs the first two. They are kept apart, because their combination, the log-sum-exp, would
//! lose digits in f32.

use crate::{
    KernelError, Launch, Operation, ScalarType,
    kernel::{LOG_PROB, read, value, write},
    launch::{self, WARP, size},
};

/// Adds a chunk of columns to the state of its rows. The chunk with `first` column 0 must be
/// launched first.
///
/// A target outside the vocabulary has the log-prob −∞.
pub static CHUNK: Operation = Operation {
    source: &LOG_PROB,
    name: "log_prob_chunk",
    parameters: &[
        write("highest", ScalarType::F32),
        write("sum", ScalarType::F64),
        write("target_logit", ScalarType::F32),
        read("logits", ScalarType::Generic),
        read("targets", ScalarType::U32),
        value("first", ScalarType::U32),
        value("columns", ScalarType::U32),
    ],
};

/// Operation of [`log_probs`], launched after all chunks.
pub static FINISH: Operation = Operation {
    source: &LOG_PROB,
    name: "log_prob_finish",
    parameters: &[
        write("log_probs", ScalarType::F64),
        read("highest", ScalarType::F32),
        read("sum", ScalarType::F64),
        read("target_logit", ScalarType::F32),
        value("rows", ScalarType::U32),
    ],
};

/// Operation of [`backward`] for a chunk of columns. A null `scale` means 1. `d_logits` may alias
/// `logits`.
pub static BACKWARD: Operation = Operation {
    source: &LOG_PROB,
    name: "log_prob_backward",
    parameters: &[
        write("d_logits", ScalarType::Generic),
        read("logits", ScalarType::Generic),
        read("highest", ScalarType::F32),
        read("sum", ScalarType::F64),
        read("targets", ScalarType::U32),
        read("scale", ScalarType::F32),
        value("first", ScalarType::U32),
        value("columns", ScalarType::U32),
    ],
};

pub(crate) static OPERATIONS: &[&Operation] = &[&CHUNK, &FINISH, &BACKWARD];

/// Threads per row. Many, because there are few rows with many columns.
const THREADS: u32 = 512;

/// Returns the launch of [`CHUNK`].
pub fn chunk_launch(rows: usize) -> Result<Launch, KernelError> {
    Launch::rows(rows, THREADS, 2 * THREADS / WARP * 4)
}

/// Returns the launch of [`FINISH`].
pub fn finish_launch(rows: usize) -> Result<Launch, KernelError> {
    Launch::rows(rows.div_ceil(launch::THREADS as usize), launch::THREADS, 0)
}

/// Returns the launch of [`BACKWARD`].
pub fn backward_launch(rows: usize, columns: usize) -> Result<Launch, KernelError> {
    let parts = columns.div_ceil(launch::THREADS as usize).min(0xffff);
    Ok(Launch { grid: [size("rows", rows)?, parts as u32], block: launch::THREADS, shared_bytes: 0 })
}

/// Twin of [`CHUNK`] over the whole vocabulary and [`FINISH`]: returns log π(target) of each row.
///
/// `logits` is `[rows, vocabulary]`, `targets` is `[rows]`.
pub fn log_probs(logits: &[f64], vocabulary: usize, targets: &[u32]) -> Vec<f64> {
    let rows = logits.chunks_exact(vocabulary).zip(targets);
    rows.map(|(logits, target)| {
        let highest = highest(logits);
        let sum: f64 = logits.iter().map(|logit| (logit - highest).exp()).sum();
        logits.get(*target as usize).map_or(f64::NEG_INFINITY, |logit| logit - highest - sum.ln())
    })
    .collect()
}

/// Twin of [`BACKWARD`] over the whole vocabulary: returns scale·(onehot(target) −
/// softmax(logits)), `[rows, vocabulary]`. `scale` `[rows]` is d loss / d log π.
pub fn backward(logits: &[f64], vocabulary: usize, targets: &[u32], scale: &[f64]) -> Vec<f64> {
    let rows = logits.chunks_exact(vocabulary).zip(targets).zip(scale);
    rows.flat_map(|((logits, target), scale)| {
        let highest = highest(logits);
        let sum: f64 = logits.iter().map(|logit| (logit - highest).exp()).sum();
        logits.iter().enumerate().map(move |(column, logit)| {
            let here = if column == *target as usize { 1.0 } else { 0.0 };
            scale * (here - (logit - highest).exp() / sum)
        })
    })
    .collect()
}

fn highest(logits: &[f64]) -> f64 {
    logits.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{assert_derivative, dot, random_values};

    #[test]
    fn the_twins_are_derivatives() {
        let (logits, scale, targets) = (random_values(1, 24), random_values(2, 3), [5, 0, 7]);
        let d_logits = backward(&logits, 8, &targets, &scale);
        assert_derivative("logits", &logits, &d_logits, |logits| {
            dot(&log_probs(logits, 8, &targets), &scale)
        });
        let total: f64 = (0..8).map(|target| log_probs(&logits[..8], 8, &[target])[0].exp()).sum();
        assert!((total - 1.0).abs() < 1e-12);
    }
}
