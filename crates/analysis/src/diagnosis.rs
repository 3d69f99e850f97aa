//! Diagnosis of training faults from a run's metrics.
//!
//! Every detector is a function of the records of `metrics.jsonl` and reports nothing where a
//! metric that it needs is missing. Thresholds are rules of thumb that ordinary runs do not reach.
//! A finding is a reason to look at the run, not a proof.

use prospect_runs::{MetricsRecord, Sign};

mod detectors;
mod metric_series;

/// A probable fault of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// Kind of fault.
    pub sign: Sign,
    /// Metric values that indicate it, in a sentence.
    pub evidence: String,
    /// First and last optimizer step concerned.
    pub steps: [u64; 2],
    /// Recommended checks and changes.
    pub advice: &'static str,
}

/// Metric values that indicate a fault, and the steps that they come from.
struct Evidence {
    text: String,
    steps: [u64; 2],
}

/// Returns the probable faults of a run.
pub fn diagnose(records: &[MetricsRecord]) -> Vec<Diagnosis> {
    let results = [
        (Sign::Unstable, detectors::unstable(records), UNSTABLE),
        (Sign::NoLearning, detectors::no_learning(records), NO_LEARNING),
        (Sign::ModeCollapse, detectors::mode_collapse(records), MODE_COLLAPSE),
        (Sign::ReferencePointAtZero, detectors::reference_point_at_zero(records), REFERENCE_POINT_AT_ZERO),
        (Sign::ChosenFalling, detectors::chosen_falling(records), CHOSEN_FALLING),
        (Sign::LengthBlowUp, detectors::length_blow_up(records), LENGTH_BLOW_UP),
    ];
    let diagnoses = results.into_iter().filter_map(|(sign, evidence, advice)| {
        let Evidence { text, steps } = evidence?;
        Some(Diagnosis { sign, evidence: text, steps, advice })
    });
    diagnoses.collect()
}

const UNSTABLE: &str = "Lower learning_rate or lengthen warmup_steps; with KTO, see whether desirable_weight (λ_D) or \
    undesirable_weight (λ_U) is so large that a few rows carry the step: auto keeps (λ_D·n_D)/(λ_U·n_U) near 1.";
const NO_LEARNING: &str = "Raise learning_rate or the number of steps; see whether beta is so large that rewards saturate, and \
    whether the adapter's rank leaves the model too little to change.";
const MODE_COLLAPSE: &str = "Look at kl: raise beta or lower learning_rate or the number of epochs, so that the policy stays \
    nearer to the reference; read the generations.";
const REFERENCE_POINT_AT_ZERO: &str = "The estimate of KL is clamped at 0 because unrelated completions have become less \
    likely than under the reference, so KTO runs without its reference point: raise batch_size or kl_partners, lower \
    learning_rate, or see whether undesirable rows outweigh desirable ones.";
const CHOSEN_FALLING: &str = "The margin grows because rejected completions fall faster, and probability moves to completions \
    that nobody judged: lower learning_rate or the number of epochs, raise beta, or try an objective with a likelihood term \
    (orpo, slic).";
const LENGTH_BLOW_UP: &str = "See whether chosen completions are longer than rejected ones in the data; a length-normalised \
    objective (simpo, ipo) or balanced data removes that reason. If completions no longer end, see whether training \
    completions were cut by max_length, which takes their end marker.";

#[cfg(test)]
mod tests;
