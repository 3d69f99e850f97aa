//! Evaluation of trained policies.
//!
//! * [`HeldOut`]: held-out pairs and thumbs, packed once. [`HeldOut::evaluate`] computes preference accuracy, AUC,
//!   reward margin, KL estimate and the objective's own loss, overall and by source and domain.
//! * [`HeldOutPrompts`]: held-out prompts, and metrics of the completions that a policy generates.
//!   [`HeldOutPrompts::sample`] draws completions with their KL divergence from the reference.
//! * [`CorruptedPairs`]: agreement of a policy with training pairs that noise swapped.
//! * [`judge`]: comparison of generations by a language model or a reward model.
//!
//! Statistics over runs are in `prospect-analysis`, which needs no model.

mod corrupted;
mod diversity;
mod generations;
mod held_out;
pub mod judge;

pub use corrupted::CorruptedPairs;
pub use generations::{GenerationOptions, Generations, HeldOutPrompts, PolicySamples, Utility};
pub use held_out::{Evaluation, HeldOut, HeldOutLimits};
use prospect_train::Settings;

/// Completions per forward pass: those of a micro-batch, so that evaluation fits wherever training
/// does, and at most 32, beyond which throughput does not grow.
fn completions_per_pass(settings: &Settings) -> usize {
    settings.micro_batch_size.clamp(1, 32)
}

/// Pairs per forward pass.
fn pairs_per_pass(settings: &Settings) -> usize {
    (completions_per_pass(settings) / 2).max(1)
}
