//! Rows of a dataset.

use serde::{Deserialize, Serialize};

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// `user`, `assistant` or `system`.
    pub role: String,
    /// Text, trimmed.
    pub content: String,
}

impl Message {
    /// Makes a user turn.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: "user".to_owned(), content: content.into() }
    }

    /// Makes an assistant turn.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: "assistant".to_owned(), content: content.into() }
    }
}

/// Split of a dataset.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, strum::Display,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Split {
    /// Training rows. Imbalance and noise apply to these only.
    Train,
    /// Held-out rows, never corrupted.
    Test,
}

impl Split {
    /// Both splits.
    pub const ALL: [Self; 2] = [Self::Train, Self::Test];
}

/// A prompt, a completion and a binary label: a row of `kto/*.parquet`, in the format of TRL's
/// `KTOTrainer`.
#[derive(Debug, Clone, PartialEq)]
pub struct BinaryRow {
    /// Hash of prompt and completion. Rows share it if several people judged the same completion.
    pub id: String,
    /// Hash of the prompt. A prompt is never in both splits.
    pub prompt_id: String,
    /// Pair that the row is a side of.
    pub pair_id: Option<String>,
    /// Conversation before the completion.
    pub prompt: Vec<Message>,
    /// Judged completion: one assistant turn.
    pub completion: Vec<Message>,
    /// Label after noise: true for desirable.
    pub label: bool,
    /// Name of the source, such as `hh`.
    pub source: String,
    /// Domain within the source.
    pub domain: String,
    /// Score of the completion, if the source has scores; higher is better.
    pub score: Option<f64>,
    /// Label before noise.
    pub original_label: bool,
    /// Kinds of noise that changed the row, joined by `+`, or `none`.
    pub noise: String,
    /// Weight of the row in training.
    pub weight: f64,
    /// Salted hash of the user or conversation that the judgement comes from, if the source gives
    /// it.
    pub group: Option<String>,
}

/// Value of the `noise` column for unchanged rows.
const NO_NOISE: &str = "none";

impl BinaryRow {
    /// Returns whether noise changed the label or the completion.
    pub fn is_corrupted(&self) -> bool {
        self.noise != NO_NOISE
    }
}

/// A prompt with a chosen and a rejected completion: a row of `dpo/*.parquet`, in the format of
/// TRL's `DPOTrainer`.
#[derive(Debug, Clone, PartialEq)]
pub struct PairRow {
    /// Hash of the prompt and the two completions, in the source's order.
    pub pair_id: String,
    /// Hash of the prompt. A prompt is never in both splits.
    pub prompt_id: String,
    /// Conversation before the completions.
    pub prompt: Vec<Message>,
    /// Preferred completion, after noise.
    pub chosen: Vec<Message>,
    /// Other completion.
    pub rejected: Vec<Message>,
    /// Name of the source, such as `hh`.
    pub source: String,
    /// Domain within the source.
    pub domain: String,
    /// Score of the completion in `chosen`, if the source has scores.
    pub score_chosen: Option<f64>,
    /// Score of the completion in `rejected`, if the source has scores.
    pub score_rejected: Option<f64>,
    /// Kinds of noise that changed the pair, joined by `+`, or `none`.
    pub noise: String,
    /// True if noise swapped the two sides.
    pub swapped: bool,
    /// Salted hash of the user or conversation that the preference comes from, if the source gives
    /// it.
    pub group: Option<String>,
}

impl PairRow {
    /// Returns whether noise swapped the sides or changed a completion.
    pub fn is_corrupted(&self) -> bool {
        self.noise != NO_NOISE
    }
}
