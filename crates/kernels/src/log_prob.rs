//! log softmax(logits)\[target\] of rows, with the vocabulary in chunks of columns, so that `[rows, vocabulary]` logits
//! need not exist at once.
//!
//! Three numbers a row go from chunk to chunk: the highest logit, Σ exp(logit − highest) and the target's logit. The first
//! two are what the backward pass needs: together they are log Σ exp(logit), and apart they keep all digits in f32.

use crate::{
    Item, KernelError, Launch, Operation,
    kernel::{LOG_PROB, read, value, write},
    launch::{self, WARP, size},
};

/// Takes a chunk of columns into account; the chunk whose `first` column is 0 comes first. A target beyond the vocabulary
/// has the log-prob −∞.
pub static CHUNK: Operation = Operation {
    source: &LOG_PROB,
    name: "log_prob_chunk",
    parameters: &[
        write("highest", Item::F32),
        write("sum", Item::F64),
        write("target_logit", Item::F32),
        read("logits", Item::Any),
        read("targets", Item::U32),
        value("first", Item::U32),
        value("columns", Item::U32),
    ],
};

/// [`log_probs`], after all chunks.
pub static FINISH: Operation = Operation {
    source: &LOG_PROB,
    name: "log_prob_finish",
    parameters: &[
        write("log_probs", Item::F64),
        read("highest", Item::F32),
        read("sum", Item::F64),
        read("target_logit", Item::F32),
        value("rows", Item::U32),
    ],
};

/// The columns of a chunk of [`backward`]. `scale` is null where it is 1; `d_logits` may lie where `logits` lie.
pub static BACKWARD: Operation = Operation {
    source: &LOG_PROB,
    name: "log_prob_backward",
    parameters: &[
        write("d_logits", Item::Any),
        read("logits", Item::Any),
        read("highest", Item::F32),
        read("sum", Item::F64),
        read("targets", Item::U32),
        read("scale", Item::F32),
        value("first", Item::U32),
        value("columns", Item::U32),
    ],
};

pub(crate) static OPERATIONS: &[&Operation] = &[&CHUNK, &FINISH, &BACKWARD];

/// Threads that share a row: there are few rows of many columns.
const THREADS: u32 = 512;

/// Of [`CHUNK`].
pub fn chunk_launch(rows: usize) -> Result<Launch, KernelError> {
    Launch::rows(rows, THREADS, 2 * THREADS / WARP * 4)
}

/// Of [`FINISH`].
pub fn finish_launch(rows: usize) -> Result<Launch, KernelError> {
    Launch::rows(rows.div_ceil(launch::THREADS as usize), launch::THREADS, 0)
}

/// Of [`BACKWARD`].
pub fn backward_launch(rows: usize, columns: usize) -> Result<Launch, KernelError> {
    let parts = columns.div_ceil(launch::THREADS as usize).min(0xffff);
    Ok(Launch { grid: [size("rows", rows)?, parts as u32], block: launch::THREADS, shared_bytes: 0 })
}

/// Twin of [`CHUNK`] over the whole vocabulary and [`FINISH`]: log π(target) of every row. `logits` is
/// `[rows, vocabulary]`, `targets` `[rows]`.
pub fn log_probs(logits: &[f64], vocabulary: usize, targets: &[u32]) -> Vec<f64> {
    let rows = logits.chunks_exact(vocabulary).zip(targets);
    rows.map(|(logits, target)| {
        let highest = highest(logits);
        let sum: f64 = logits.iter().map(|logit| (logit - highest).exp()).sum();
        logits.get(*target as usize).map_or(f64::NEG_INFINITY, |logit| logit - highest - sum.ln())
    })
    .collect()
}

/// Twin of [`BACKWARD`] over the whole vocabulary: scale·(onehot(target) − softmax), `[rows, vocabulary]`, where `scale`
/// `[rows]` is d loss / d log π.
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
    use crate::check::{assert_derivative, dot, numbers};

    #[test]
    fn the_twins_are_derivatives() {
        let (logits, scale, targets) = (numbers(1, 24), numbers(2, 3), [5, 0, 7]);
        let d_logits = backward(&logits, 8, &targets, &scale);
        assert_derivative("logits", &logits, &d_logits, |logits| {
            dot(&log_probs(logits, 8, &targets), &scale)
        });
        let total: f64 = (0..8).map(|target| log_probs(&logits[..8], 8, &[target])[0].exp()).sum();
        assert!((total - 1.0).abs() < 1e-12);
    }
}
