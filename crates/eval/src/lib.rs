//! Evaluation of trained policies.
//!
//! * [`HeldOut`]: held-out pairs and thumbs, packed once. [`HeldOut::evaluate`] computes preference
//!   accuracy, AUC, reward margin, KL estimate and the objective's own loss, overall and by source
//!   and domain.
//! * [`HeldOutPrompts`]: held-out prompts, and metrics of the completions that a policy generates.
//!   [`HeldOutPrompts::sample`] draws completions with their KL divergence from the reference.
//! * [`CorruptedPairs`]: agreement of a policy with training pairs that noise swapped.
//! * [`Capabilities`]: questions with known answers, asked before and after training, to measure
//!   what training costs the model.
//! * [`judge`]: comparison of generations by a language model or a reward model.
//! * [`exchange`]: prompts for another engine, and its completions back.
//! * [`import`]: comparisons and scores that other tools or people made.
//!
//! Statistics over runs are in `prospect-analysis`, which needs no model.

mod capabilities;
mod corrupted;
mod diversity;
pub mod exchange;
mod generations;
mod held_out;
pub mod import;
pub mod judge;

use std::ops::Range;

pub use capabilities::{
    AskedQuestions, Capabilities, CapabilityResults, ExactOptions, Extractor, LoadedTest, QuestionShape,
    ShotsRequest, TestRequest, TestTask,
};
pub use corrupted::CorruptedPairs;
pub use generations::{GenerationOptions, Generations, HeldOutPrompts, PolicySamples, Utility};
pub use held_out::{Evaluation, HeldOut, HeldOutLimits};
use prospect_train::{Encoded, PairExample};

/// Rows of a forward pass without gradient. Matrix products reach their full rate with them, and
/// the pass needs less memory than a training step with recomputed activations.
const ROWS_PER_PASS: usize = 2048;

/// Divides items with these numbers of rows into consecutive passes of at most [`ROWS_PER_PASS`]
/// rows, or of one item.
fn passes(rows: impl IntoIterator<Item = usize>) -> Vec<Range<usize>> {
    let mut passes: Vec<Range<usize>> = Vec::new();
    let mut filled = 0;
    for (item, rows) in rows.into_iter().enumerate() {
        filled += rows;
        match passes.last_mut() {
            Some(pass) if filled <= ROWS_PER_PASS => pass.end = item + 1,
            _ => {
                filled = rows;
                passes.push(item..item + 1);
            }
        }
    }
    passes
}

/// Returns the rows of a prompt with its completion.
fn rows_of(encoded: &Encoded) -> usize {
    encoded.prompt.len() + encoded.completion.len()
}

/// Returns the rows of a pair, whose sides share the prompt.
fn rows_of_pair(pair: &PairExample) -> usize {
    rows_of(&pair.chosen) + pair.rejected.completion.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_are_as_large_as_allowed_and_cover_every_item() {
        assert_eq!(passes([1000, 1000, 48, 1, 3000, 5, 2043]), [0..3, 3..4, 4..5, 5..7]);
        assert!(passes([]).is_empty());
    }
}
