//! Scores that judges give to generations.

use serde::{Deserialize, Serialize};

/// Completion that a generation is compared with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Opponent {
    /// Preferred completion of the held-out pair, the target of SFT.
    Target,
    /// Generation of the baseline series at the same x and seed.
    Baseline,
    /// Generation of the run with this id.
    Run(String),
}

/// One comparison by a judge: a line of `judgements.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// Name of the judge.
    pub judge: String,
    /// Completion that the generation was compared with.
    pub opponent: Opponent,
    /// Content hash of the prompt.
    pub prompt_id: String,
    /// Optimizer steps after which the completion was sampled; None for those of
    /// `generations.jsonl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// 1 for a win, ½ for a tie, 0 for a loss; None if the judge's answer cannot be read.
    pub score: Option<f64>,
    /// Reward of the completion minus that of the other one, if the judge has rewards: in nats, or in
    /// the unit of a pretrained reward model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<f64>,
    /// Characters of the completion and of the other one, as judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub characters: Option<[usize; 2]>,
}

/// A judge and its description: an entry of `judges.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgeNote {
    /// Name of the judge.
    pub name: String,
    /// Method of judging, in a sentence or two.
    pub about: String,
}
