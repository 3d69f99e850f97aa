//! What a run reports while it trains.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Whether a record speaks of an optimizer step or of the held-out pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One optimizer step.
    Train,
    /// One pass over the held-out pairs.
    Eval,
}

/// One line of `metrics.jsonl`.
///
/// Training values carry TRL's names (`loss`, `kl`, `rewards/chosen`, `rewards/rejected`, `rewards/margins`,
/// `logps/chosen`, `logps/rejected`, `grad_norm`, `learning_rate`, `num_tokens`, `epoch`); held-out values the same
/// with `eval_` before them, and `eval_rewards/accuracies`. A class absent from a batch has no value. `docs/objectives.md`
/// lists all names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What the record speaks of.
    pub kind: Kind,
    /// Optimizer steps done.
    pub step: u64,
    /// Values by name.
    #[serde(flatten)]
    pub values: BTreeMap<String, f64>,
}

/// The last value of a metric.
pub fn last(records: &[Record], metric: &str) -> Option<f64> {
    records.iter().rev().find_map(|record| record.values.get(metric)).copied()
}

/// One held-out pair under the trained policy: a line of `pairs.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairOutcome {
    /// The pair's content hash, the same in every run over the same data.
    pub pair_id: String,
    /// The prompt's content hash.
    pub prompt_id: String,
    /// The kind of source that the pair comes from.
    pub source: String,
    /// The domain within the source.
    pub domain: String,
    /// log `π/π_ref` of the chosen completion, in nats.
    pub chosen: f64,
    /// log `π/π_ref` of the rejected completion, in nats.
    pub rejected: f64,
}

impl PairOutcome {
    /// Whether the policy prefers the chosen completion; a tie counts half.
    pub fn accuracy(&self) -> f64 {
        preference(self.chosen, self.rejected)
    }
}

/// 1 if `this` is larger than `other`, 0 if it is not, and half for a tie.
pub fn preference(this: f64, other: f64) -> f64 {
    match this.partial_cmp(&other) {
        Some(std::cmp::Ordering::Greater) => 1.0,
        Some(std::cmp::Ordering::Equal) => 0.5,
        _ => 0.0,
    }
}

/// How the tokens of a completion were chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GenerationMode {
    /// The likeliest token each time.
    Greedy,
    /// Nucleus sampling with `top_p` 0.95 at temperature 0.7.
    Nucleus,
}

impl GenerationMode {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Greedy => "greedy",
            Self::Nucleus => "nucleus",
        }
    }
}

/// What the trained policy says to a held-out prompt: a line of `generations.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// The prompt's content hash, the same in every run over the same data.
    pub prompt_id: String,
    /// The prompt's turns, each after its role and a colon, with an empty line between.
    pub prompt: String,
    /// What the policy says, without the end marker.
    pub completion: String,
    /// Its tokens, without the end marker.
    pub tokens: usize,
    /// Whether the end marker came before the limit of tokens.
    pub ended: bool,
    /// How tokens were chosen.
    pub mode: GenerationMode,
    /// The preferred completion of the held-out pair.
    pub chosen: String,
    /// The true utility of the completion, where the data knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utility: Option<f64>,
    /// The true utility of the preferred completion, where the data knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen_utility: Option<f64>,
}
