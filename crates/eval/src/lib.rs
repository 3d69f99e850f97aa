//! Held-out preference metrics and the statistics of comparing methods.
//!
//! [`HeldOut`] is a fixed set of true pairs, packed once; [`HeldOut::evaluate`] says how a policy ranks them:
//! preference accuracy, reward margin, KL estimate and the objective's own loss, over all and by source and domain.
//! [`HeldOutPrompts`] says what a policy answers to held-out prompts, [`CorruptedPairs`] whether it believes training pairs
//! that noise turned round, [`judge`] who says better things. [`diagnose`] reads what has gone wrong from the metrics of a run.
//! [`stats`] turns the outcomes of many runs into estimates and differences with intervals.

mod calibration;
mod corrupted;
pub mod diagnosis;
mod generations;
mod held_out;
pub mod judge;
pub mod stats;
mod text;

pub use calibration::calibration;
pub use corrupted::CorruptedPairs;
pub use diagnosis::{Diagnosis, diagnose};
pub use generations::{GenerationOptions, Generations, HeldOutPrompts, Utility};
pub use held_out::{Evaluation, HeldOut, is_validation};
use prospect_train::Settings;

/// Completions that pass through the model at once: those of a micro-batch, so that whatever trains in a device's memory is
/// evaluated in it, and no more than help.
fn at_once(settings: &Settings) -> usize {
    settings.micro_batch_size.clamp(1, 32)
}

/// Pairs that do.
fn pairs_at_once(settings: &Settings) -> usize {
    (at_once(settings) / 2).max(1)
}
