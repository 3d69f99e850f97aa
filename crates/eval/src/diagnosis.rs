//! What has gone wrong in a run, read from its metrics.
//!
//! Every detector is a function of the records of `metrics.jsonl` that stays silent where the metrics that it needs are
//! missing. Thresholds are rules of thumb, chosen so that ordinary runs do not set them off; a finding is a reason to look,
//! not a proof.

use prospect_runs::{Record, Sign};

mod series;
mod signs;

/// Something that looks wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// What it is.
    pub sign: Sign,
    /// The numbers that say so.
    pub evidence: String,
    /// The first optimizer step that it is about, and the last.
    pub steps: [u64; 2],
    /// What to look at.
    pub advice: &'static str,
}

/// What a detector found: the numbers and the steps that they are from.
type Found = Option<(String, [u64; 2])>;

/// Everything that looks wrong in a run.
pub fn diagnose(records: &[Record]) -> Vec<Diagnosis> {
    let signs = [
        (Sign::Unstable, signs::unstable(records), UNSTABLE),
        (Sign::NoLearning, signs::no_learning(records), NO_LEARNING),
        (Sign::ModeCollapse, signs::mode_collapse(records), MODE_COLLAPSE),
        (Sign::ReferencePointAtZero, signs::reference_point_at_zero(records), REFERENCE_POINT_AT_ZERO),
        (Sign::ChosenFalling, signs::chosen_falling(records), CHOSEN_FALLING),
        (Sign::LengthBlowUp, signs::length_blow_up(records), LENGTH_BLOW_UP),
    ];
    let found = signs.into_iter().filter_map(|(sign, found, advice)| {
        let (evidence, steps) = found?;
        Some(Diagnosis { sign, evidence, steps, advice })
    });
    found.collect()
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
