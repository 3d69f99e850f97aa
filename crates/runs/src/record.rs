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
/// with `eval_` before them, and `eval_rewards/accuracies`. A class absent from a batch has no value.
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

/// One held-out pair under the trained policy: a line of `pairs.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairOutcome {
    /// The pair's content hash, the same in every run over the same data.
    pub pair_id: String,
    /// The prompt's content hash.
    pub prompt_id: String,
    /// log `π/π_ref` of the chosen completion, in nats.
    pub chosen: f64,
    /// log `π/π_ref` of the rejected completion, in nats.
    pub rejected: f64,
}

impl PairOutcome {
    /// Whether the policy prefers the chosen completion; a tie counts half.
    pub fn accuracy(&self) -> f64 {
        match self.chosen.partial_cmp(&self.rejected) {
            Some(std::cmp::Ordering::Greater) => 1.0,
            Some(std::cmp::Ordering::Equal) => 0.5,
            _ => 0.0,
        }
    }
}
