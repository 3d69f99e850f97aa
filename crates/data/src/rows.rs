//! The rows of a dataset, and reading them back.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// `user`, `assistant` or `system`.
    pub role: String,
    /// The text, trimmed.
    pub content: String,
}

impl Message {
    /// A turn of the human.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: "user".to_owned(), content: content.into() }
    }

    /// A turn of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: "assistant".to_owned(), content: content.into() }
    }
}

/// Which rows: to train on, or held out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Rows to train on; imbalance and noise apply here.
    Train,
    /// Held-out rows, never corrupted.
    Test,
}

impl Split {
    /// Both splits.
    pub const ALL: [Self; 2] = [Self::Train, Self::Test];
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Test => "test",
        })
    }
}

/// A prompt, a completion and whether people found it desirable (`kto/*.parquet`, as TRL's `KTOTrainer` reads).
#[derive(Debug, Clone, PartialEq)]
pub struct BinaryRow {
    /// Names prompt and completion by content; two rows share it where people disagree or repeat themselves.
    pub id: String,
    /// Names the prompt by content; never in both splits.
    pub prompt_id: String,
    /// The pair this row is one side of.
    pub pair_id: Option<String>,
    /// The conversation so far.
    pub prompt: Vec<Message>,
    /// The completion that was judged: one assistant turn.
    pub completion: Vec<Message>,
    /// Desirable or not, after noise.
    pub label: bool,
    /// The kind of source: `hh`, `synthetic`.
    pub source: String,
    /// The domain within the source.
    pub domain: String,
    /// The score the source gives the completion; higher is better.
    pub score: Option<f64>,
    /// The label before noise.
    pub original_label: bool,
    /// What noise did: `none` or `flip`.
    pub noise: String,
    /// Weight of the row in training.
    pub weight: f64,
}

/// The name in the `noise` column of a row that noise left alone.
const NO_NOISE: &str = "none";

impl BinaryRow {
    /// Whether noise changed the row's label or completion.
    pub fn is_corrupted(&self) -> bool {
        self.noise != NO_NOISE
    }
}

impl PairRow {
    /// Whether noise exchanged the sides or changed a completion.
    pub fn is_corrupted(&self) -> bool {
        self.noise != NO_NOISE
    }
}

/// A prompt and two completions, one preferred (`dpo/*.parquet`, as TRL's `DPOTrainer` reads).
#[derive(Debug, Clone, PartialEq)]
pub struct PairRow {
    /// Names the pair by content, in the source's order of sides.
    pub pair_id: String,
    /// Names the prompt by content; never in both splits.
    pub prompt_id: String,
    /// The conversation so far.
    pub prompt: Vec<Message>,
    /// The preferred completion, after noise.
    pub chosen: Vec<Message>,
    /// The other completion.
    pub rejected: Vec<Message>,
    /// The kind of source: `hh`, `synthetic`.
    pub source: String,
    /// The domain within the source.
    pub domain: String,
    /// The source's score of the completion in `chosen`.
    pub score_chosen: Option<f64>,
    /// The source's score of the completion in `rejected`.
    pub score_rejected: Option<f64>,
    /// What noise did: `none` or `flip`.
    pub noise: String,
    /// Whether noise exchanged the two sides.
    pub swapped: bool,
}
