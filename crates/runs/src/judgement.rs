//! Scores that judges give to generations.

use std::collections::BTreeMap;

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
    /// Completion by a model outside of the sweep, with this name. Only imports have it.
    Model(String),
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
    /// [`JudgementImport::id`] of the imported file that the comparison comes from; None for a judge
    /// that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import: Option<String>,
}

/// Score of a run on one question, imported from another tool: a line of `scores.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImportedScore {
    /// Name of the tool or of the judge.
    pub judge: String,
    /// Task and metric, such as `arc_easy, acc`.
    pub task: String,
    /// Id of the question, the same in every run.
    pub question: String,
    /// Score.
    pub score: f64,
    /// True if lower scores are better, as with perplexities.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lower_is_better: bool,
    /// [`JudgementImport::id`] of the file.
    pub import: String,
}

/// An imported file of judgements or scores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgementImport {
    /// Path of the file, as given.
    pub file: String,
    /// BLAKE3 hash of the file.
    pub blake3: String,
    /// Format that it was recognised as, in words.
    pub format: String,
    /// Rows of the file.
    pub rows: usize,
    /// Rows that count.
    pub used: usize,
    /// Rows that do not count, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub skipped: BTreeMap<String, usize>,
}

impl JudgementImport {
    /// Digits of the hash that identify a file.
    const ID_DIGITS: usize = 16;

    /// First digits of the file's hash.
    pub fn id(&self) -> &str {
        self.blake3.get(..Self::ID_DIGITS).unwrap_or(&self.blake3)
    }
}

/// A judge and its description: an entry of `judges.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgeNote {
    /// Name of the judge.
    pub name: String,
    /// Method of judging, in a sentence or two.
    pub about: String,
    /// True if the judge was tested on pairs of the feedback, and is not shown to rank them better
    /// than chance. Its win rates have no verdict.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_chance: bool,
    /// Imported files, if the judgements were made elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub imports: Vec<JudgementImport>,
}
