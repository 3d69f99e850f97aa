//! Records of a run: metrics, held-out pairs, held-out thumbs and generations.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strum::{Display, VariantArray};

/// Event that a metrics record belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum RecordKind {
    /// One optimizer step.
    Train,
    /// One evaluation on the held-out feedback.
    Eval,
}

/// One line of `metrics.jsonl`.
///
/// Training metrics have TRL's names (`loss`, `kl`, `rewards/chosen`, `rewards/rejected`,
/// `rewards/margins`, `logps/chosen`, `logps/rejected`, `grad_norm`, `learning_rate`, `num_tokens`,
/// `epoch`). Held-out metrics have the prefix `eval_`, and there is `eval_rewards/accuracies`. A
/// class that a batch lacks has no value. `docs/objectives.md` lists all names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricsRecord {
    /// Optimizer step or evaluation.
    pub kind: RecordKind,
    /// Optimizer steps done.
    pub step: u64,
    /// Values by metric name.
    #[serde(flatten)]
    pub values: BTreeMap<String, f64>,
}

/// Returns the last value of a metric.
pub fn last(records: &[MetricsRecord], metric: &str) -> Option<f64> {
    records.iter().rev().find_map(|record| record.values.get(metric)).copied()
}

/// One held-out pair under the trained policy: a line of `pairs.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairOutcome {
    /// Content hash of the pair, the same in every run on the same data.
    pub pair_id: String,
    /// Content hash of the prompt.
    pub prompt_id: String,
    /// Kind of source that the pair comes from.
    pub source: String,
    /// Domain within the source.
    pub domain: String,
    /// Salted hash of the user or conversation, if the data has groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Log-ratio log `π/π_ref` of the chosen completion, in nats.
    pub chosen: f64,
    /// Log-ratio log `π/π_ref` of the rejected completion, in nats.
    pub rejected: f64,
    /// Scores of the chosen and of the rejected completion that the objective ranks by, in nats, if
    /// it has no reference: the mean log-prob of a token, or the log-prob of the completion (SLiC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_scores: Option<[f64; 2]>,
}

impl PairOutcome {
    /// 1 if the policy prefers the chosen completion, ½ for a tie, else 0.
    pub fn accuracy(&self) -> f64 {
        preference(self.chosen, self.rejected)
    }

    /// The same by the score that the objective ranks by; None if that is the log-ratio.
    pub fn own_accuracy(&self) -> Option<f64> {
        self.own_scores.map(|[chosen, rejected]| preference(chosen, rejected))
    }
}

/// One held-out thumb, a labelled completion, under the trained policy: a line of `thumbs.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThumbOutcome {
    /// Content hash of prompt and completion, the same in every run on the same data. Further
    /// judgements of one completion end in `#2`, `#3` and so on.
    pub id: String,
    /// Content hash of the prompt.
    pub prompt_id: String,
    /// Kind of source that the thumb comes from.
    pub source: String,
    /// Domain within the source.
    pub domain: String,
    /// Salted hash of the user or conversation, if the data has groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// True for thumbs up.
    pub desirable: bool,
    /// Tokens of the completion.
    pub tokens: usize,
    /// Log-ratio log `π/π_ref` of the completion, in nats.
    pub log_ratio: f64,
    /// Probability of a thumb up: the reward after Platt scaling on training rows. Only the last
    /// evaluation has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
}

/// Completion of a held-out prompt, drawn from the policy at temperature 1 during training: a line
/// of `samples.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicySample {
    /// Optimizer steps done.
    pub step: u64,
    /// Content hash of the prompt, the same in every run on the same data.
    pub prompt_id: String,
    /// Text of the completion, without the end token.
    pub completion: String,
    /// Tokens of the completion, without the end token.
    pub tokens: usize,
    /// True if the policy generated the end token before the token limit.
    pub ended: bool,
    /// Sum over the tokens, the end token included, of KL(π ‖ π_ref) of the next-token
    /// distribution, in nats. Its mean over samples estimates the KL divergence of completions up
    /// to the token limit.
    pub kl: f64,
    /// Log-ratio log `π/π_ref` of the completion, in nats.
    pub log_ratio: f64,
    /// True utility of the completion, if the data has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utility: Option<f64>,
}

/// Returns 1 if `this` is larger than `other`, ½ for a tie, else 0.
///
/// ```
/// assert_eq!(prospect_runs::preference(2.0, 1.0), 1.0);
/// assert_eq!(prospect_runs::preference(1.0, 1.0), 0.5);
/// ```
pub fn preference(this: f64, other: f64) -> f64 {
    match this.partial_cmp(&other) {
        Some(std::cmp::Ordering::Greater) => 1.0,
        Some(std::cmp::Ordering::Equal) => 0.5,
        _ => 0.0,
    }
}

/// Decoding strategy of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display, VariantArray)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum GenerationMode {
    /// Greedy decoding.
    Greedy,
    /// Nucleus sampling with `top_p` 0.95 at temperature 0.7.
    Nucleus,
}

/// The trained policy's completion of a held-out prompt: a line of `generations.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// Content hash of the prompt, the same in every run on the same data.
    pub prompt_id: String,
    /// Turns of the prompt, each after its role and a colon, separated by empty lines.
    pub prompt: String,
    /// Text of the completion, without the end token.
    pub completion: String,
    /// Tokens of the completion, without the end token.
    pub tokens: usize,
    /// True if the policy generated the end token before the token limit.
    pub ended: bool,
    /// Decoding strategy.
    pub mode: GenerationMode,
    /// Chosen completion of a held-out pair, or a desirable held-out completion; None if the prompt
    /// has neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
    /// True utility of the completion, if the data has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utility: Option<f64>,
    /// True utility of the preferred completion, if the data has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen_utility: Option<f64>,
}

/// Origin of generations that another engine made: `generations.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationSource {
    /// Path of the imported file, as given.
    pub file: String,
    /// BLAKE3 hash of the file.
    pub blake3: String,
    /// Name of the model in the engine's answers; empty if they have none.
    pub model: String,
    /// Number of completions.
    pub completions: usize,
}

impl Generation {
    /// The prompt as other tools write an instruction: a single user turn without its role.
    /// Conversations of several turns are unchanged.
    pub fn instruction(&self) -> &str {
        match self.prompt.strip_prefix("user: ") {
            Some(turn) if !turn.contains("\n\nassistant: ") => turn,
            _ => &self.prompt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instruction_of_a_single_turn_has_no_role() {
        let generation = |prompt: &str| Generation {
            prompt_id: String::new(),
            prompt: prompt.to_owned(),
            completion: String::new(),
            tokens: 0,
            ended: true,
            mode: GenerationMode::Greedy,
            chosen: None,
            utility: None,
            chosen_utility: None,
        };
        assert_eq!(generation("user: hi\n\nthere").instruction(), "hi\n\nthere");
        for conversation in ["user: hi\n\nassistant: yo\n\nuser: why", "system: be kind\n\nuser: hi"] {
            assert_eq!(generation(conversation).instruction(), conversation);
        }
    }
}
