//! Diagnosis of training faults from a run's metrics.
//!
//! A detector is a function of the records of `metrics.jsonl`, or of the held-out result, and
//! reports nothing where a metric that it needs is missing. Thresholds are chosen so that runs
//! without the fault rarely reach them; `tests/false_alarms.rs` simulates how rarely.

use prospect_runs::{Estimate, Measure, MetricsRecord, Sign};

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

/// Measure of held-out feedback whose interval may contain chance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeldOutResult {
    /// Accuracy on pairs, or AUC of thumbs.
    pub measure: Measure,
    /// Value of the run with its 95 % interval over prompts.
    pub estimate: Estimate,
}

/// Returns the probable faults of a run, given the metrics and the held-out result of a finished
/// run.
pub fn diagnose(records: &[MetricsRecord], held_out: Option<HeldOutResult>) -> Vec<Diagnosis> {
    let results = [
        (Sign::Unstable, detectors::unstable(records), UNSTABLE),
        (Sign::NoLearning, detectors::no_learning(records, held_out), NO_LEARNING),
        (Sign::RanAway, detectors::ran_away(records), RAN_AWAY),
        (Sign::ModeCollapse, detectors::mode_collapse(records), MODE_COLLAPSE),
        (Sign::NoLongerEnds, detectors::no_longer_ends(records), NO_LONGER_ENDS),
        (Sign::LengthBlowUp, detectors::length_blow_up(records), LENGTH_BLOW_UP),
    ];
    let diagnoses = results.into_iter().filter_map(|(sign, evidence, advice)| {
        let Evidence { text, steps } = evidence?;
        Some(Diagnosis { sign, evidence: text, steps, advice })
    });
    let mut diagnoses: Vec<Diagnosis> = diagnoses.collect();
    if diagnoses.iter().any(|diagnosis| moved_too_fast(diagnosis.sign)) {
        // More steps or a higher learning rate would make it worse.
        diagnoses.iter_mut().filter(|diagnosis| diagnosis.sign == Sign::NoLearning).for_each(|diagnosis| {
            diagnosis.advice = NO_LEARNING_TOO_FAST;
        });
    }
    diagnoses
}

/// Returns true for the signs of a learning rate that is too high.
pub(crate) fn moved_too_fast(sign: Sign) -> bool {
    matches!(sign, Sign::Unstable | Sign::RanAway)
}

/// Returns true if KTO's reference point z0 is at its lower limit of 0 in nine tenths of the later
/// steps, although rewards are not 0.
///
/// This is usual and no fault: mismatched completions become less likely in most runs.
pub fn has_clamped_reference_point(records: &[MetricsRecord]) -> bool {
    detectors::has_clamped_reference_point(records)
}

const UNSTABLE: &str = "Lower learning_rate or lengthen warmup_steps; with KTO, see whether desirable_weight (λ_D) or \
    undesirable_weight (λ_U) is so large that a few rows carry the step: auto keeps (λ_D·n_D)/(λ_U·n_U) near 1.";
const NO_LEARNING: &str = "Train for more steps, raise learning_rate, or use more data; see whether beta is so large that \
    rewards saturate, and whether the adapter's rank leaves the model too little to change.";
const NO_LEARNING_TOO_FAST: &str =
    "Lower learning_rate first: the other signs say that the policy moved, but too fast.";
const RAN_AWAY: &str = "Raise beta, or lower learning_rate or the number of epochs, so that the policy stays nearer to the \
    reference; with KTO, see whether one class outweighs the other (desirable_weight: auto); read the generations.";
const MODE_COLLAPSE: &str = "Look at the KL divergence: raise beta or lower learning_rate or the number of epochs, so that the \
    policy stays nearer to the reference; read the generations.";
const NO_LONGER_ENDS: &str = "See whether training completions were cut by max_length, which removes their end marker, and \
    whether the policy has diverged from the reference; read the generations.";
const LENGTH_BLOW_UP: &str = "See whether chosen completions are longer than rejected ones in the data; a length-normalised \
    objective (simpo, ipo) or balanced data removes that reason.";

#[cfg(test)]
mod tests;
