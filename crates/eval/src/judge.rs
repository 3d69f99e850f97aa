//! Judges: who says better things.
//!
//! A [`Judge`] compares what a policy says to a held-out prompt with something else: the target of SFT, or what another
//! run says. [`Endpoint`] asks a language model behind an OpenAI-compatible address, [`RewardModel`] is trained here on
//! held-out pairs. [`judge_sweep`] asks a judge about every finished run of a sweep. (The third judge, true utility in
//! worlds, needs no asking: generations carry it.)

mod answers;
mod endpoint;
mod pace;
mod question;
mod reward;
mod sweep;

use std::path::Path;

pub use endpoint::{Endpoint, EndpointOptions};
pub use question::Question;
pub use reward::RewardModel;
pub use sweep::{Judged, judge_sweep};

/// Two completions of one prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The prompt's content hash.
    pub prompt_id: String,
    /// The prompt's turns, each after its role.
    pub prompt: String,
    /// What the policy says.
    pub completion: String,
    /// What it is compared with.
    pub other: String,
}

/// Someone who compares completions.
pub trait Judge {
    /// A name for tables.
    fn name(&self) -> &str;

    /// How it judges, in a sentence or two, after it has judged.
    fn about(&self) -> String;

    /// Compares completions of prompts of the test split of a prepared `dataset`: 1 if the policy's is better, 0 if the
    /// other is, ½ if neither is, None where there is no readable answer.
    fn judge(&mut self, dataset: &Path, comparisons: &[Comparison]) -> Result<Vec<Option<f64>>, JudgeError>;
}

/// Why there is no judgement.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The sweep's files cannot be read.
    #[error(transparent)]
    Runs(#[from] prospect_runs::RunsError),
    /// The dataset cannot be read.
    #[error(transparent)]
    Data(#[from] prospect_data::DataError),
    /// The reward model cannot be trained.
    #[error(transparent)]
    Train(#[from] prospect_train::TrainError),
    /// The model cannot be run.
    #[error(transparent)]
    Model(#[from] prospect_model::ModelError),
    /// The endpoint does not answer.
    #[error("{address}: {message}; the answers so far are kept, and the same command goes on with the rest")]
    Endpoint {
        /// Where the question was sent.
        address: String,
        /// What happened.
        message: String,
    },
    /// There is nothing to judge, or nothing to judge by.
    #[error("{0}")]
    Nothing(String),
}
