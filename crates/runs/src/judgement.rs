//! What judges say of generations.

use serde::{Deserialize, Serialize};

/// What a generation is compared with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Opponent {
    /// The preferred completion of the held-out pair: the target of SFT.
    Target,
    /// What the baseline series says at the same x and seed.
    Baseline,
    /// What the run of this id says.
    Run(String),
}

/// One comparison by a judge: a line of `judgements.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The judge's name.
    pub judge: String,
    /// What the generation was compared with.
    pub opponent: Opponent,
    /// The prompt's content hash.
    pub prompt_id: String,
    /// 1 for a win, 0 for a loss, ½ for neither; None if the judge's answer cannot be read.
    pub score: Option<f64>,
}

/// A judge and what there is to know of it: an entry of `judges.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgeNote {
    /// The judge's name.
    pub name: String,
    /// How it judges, in a sentence or two.
    pub about: String,
}
