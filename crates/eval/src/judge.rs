//! Judges of generations.
//!
//! A [`Judge`] compares a policy's completion of a held-out prompt with another one: the preferred
//! completion of the pair, or another run's. [`Endpoint`] asks a language model behind an
//! OpenAI-compatible API. [`RewardModel`] is trained on held-out pairs, [`PretrainedRewardModel`]
//! comes from the Hugging Face Hub. [`judge_sweep`] judges every finished run of a sweep. (In
//! synthetic worlds generations carry their true utility, so no judge needs to be asked.)

mod agreement;
mod answer_cache;
mod endpoint;
mod pretrained;
mod question;
mod rate_limit;
mod reward;
mod sweep;

use std::path::Path;

pub use answer_cache::{answers_file, damaged_answers, is_answers_file, remove_damaged_answers};
pub use endpoint::{Endpoint, EndpointOptions};
pub use pretrained::{PretrainedRewardModel, RewardModelSource};
pub use question::Question;
pub use reward::RewardModel;
pub(crate) use sweep::baseline;
pub use sweep::{JudgedCounts, judge_sweep};

/// Two completions of one prompt to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletionPair {
    /// Content hash of the prompt.
    pub prompt_id: String,
    /// Turns of the prompt, each after its role.
    pub prompt: String,
    /// The policy's completion.
    pub completion: String,
    /// Completion that it is compared with.
    pub other: String,
}

/// Result of comparing a policy's completion with another one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preference {
    /// 1 if the policy's completion is better, ½ for a tie, 0 if the other is better.
    pub score: f64,
    /// Reward of the policy's completion minus that of the other, of judges with rewards: in nats, or
    /// in the unit of a pretrained reward model.
    pub reward: Option<f64>,
}

/// A method of comparing completions.
pub trait Judge {
    /// Name in tables and judgements.
    fn name(&self) -> &str;

    /// Description in a sentence or two, complete once [`judge`](Self::judge) has been called.
    fn about(&self) -> String;

    /// True if the judge was tested on pairs of the feedback, and is not shown to rank them better
    /// than chance. Known once [`judge`](Self::judge) has been called.
    fn at_chance(&self) -> bool {
        false
    }

    /// Compares completions of prompts from the test split of a prepared `dataset`. The result is
    /// None without a readable answer.
    fn judge(
        &mut self,
        dataset: &Path,
        comparisons: &[CompletionPair],
    ) -> Result<Vec<Option<Preference>>, JudgeError>;
}

/// Error of judging.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// A file cannot be read or written.
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
    /// The endpoint cannot be reached or rejects the request.
    #[error("{address}: {message}; the answers so far are kept, run the same command again to continue")]
    Endpoint {
        /// Address of the endpoint.
        address: String,
        /// Cause.
        message: String,
    },
    /// There are no generations to judge, or the judge cannot judge them.
    #[error("{0}")]
    Unusable(String),
}
