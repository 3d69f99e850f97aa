//! Batches, reference log-probs, optimizer and the training loop.
//!
//! [`TrainFile`] is what an experiment file says of training, [`Settings`] the resolved form. [`Encoder`] turns
//! conversations into tokens, [`TrainingSet`] a dataset into examples, [`train`] runs the loop: forward over the whole
//! global batch, the objective once, then backward, so that KTO's reference point is exact under accumulation.
//!
//! [`measure`] times that loop on a random model, and says what part of a device's rate it reaches.
//!
//! Data order is a function of seed and epoch only; reference log-probs come from the weights at the start of the
//! stage and are cached by content in a [`ReferenceCache`]. What the next step depends on is kept in [`Checkpoints`].

mod batches;
mod checkpoint;
mod encode;
mod examples;
mod fit;
mod ledger;
pub mod measure;
mod objective;
mod optimizer;
mod preview;
mod reference;
mod scores;
mod settings;
mod trainer;

pub use batches::{MicroBatch, Role, pack_pairs, partners};
pub use checkpoint::{Checkpoints, TrainState};
pub use encode::{Encoded, Encoder, EncodingCounts, token_counter};
pub use examples::{PairExample, SupervisedExample, TrainingSet, UnpairedExample};
pub use fit::{PlanRequest, TrainPlan};
pub use objective::ObjectiveState;
pub use preview::{Previewed, Sequence, Style, preview, show};
pub use reference::{LogProbGranularity, Reference, ReferenceCache};
pub use settings::{
    ClassWeighting, ControlTokens, Examples, Length, Objective, ObjectiveName, Schedule, Settings, TrainFile,
    Z0,
};
pub use trainer::{Job, Observer, Policy, Trained, train};

/// Why training cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// The model failed.
    #[error(transparent)]
    Model(#[from] prospect_model::ModelError),
    /// The dataset cannot be read.
    #[error(transparent)]
    Data(#[from] prospect_data::DataError),
    /// Members of a group cannot go on together.
    #[error(transparent)]
    Collective(#[from] prospect_dist::CollectiveError),
    /// The run directory failed.
    #[error(transparent)]
    Runs(#[from] prospect_runs::RunsError),
    /// The settings cannot be used.
    #[error("training settings: {0}")]
    Settings(String),
    /// The dataset cannot be trained on.
    #[error("training data: {0}")]
    Examples(String),
    /// Whoever watches the run has seen enough.
    #[error("step {step}: {reason}")]
    Stopped {
        /// The optimizer step.
        step: u64,
        /// Why it goes no further.
        reason: String,
    },
    /// The run is another process's now.
    #[error("another process has taken the run over")]
    TakenOver,
    /// Another rank goes no further, for a reason of its own.
    #[error("rank {rank} ended the run: {reason}")]
    Ended {
        /// Its number.
        rank: usize,
        /// Why.
        reason: String,
    },
    /// A rank would go on from another step than rank 0.
    #[error(
        "rank {rank} finds the state after step {found}, rank 0 that after step {first}: do all machines see the same folder?"
    )]
    OtherState {
        /// Its number.
        rank: usize,
        /// The step that it finds; 0 if none.
        found: u64,
        /// The step that rank 0 finds.
        first: u64,
    },
    /// Ranks have come to different weights.
    #[error(
        "step {step}: the trained weights are not the same on all ranks: are all machines of one kind, with the same version?"
    )]
    Drifted {
        /// The optimizer step.
        step: u64,
    },
    /// The loss is no longer a number.
    #[error(
        "step {step}: the {what} is {value}; lower the learning rate, or look at the batch's metrics before it"
    )]
    Diverged {
        /// The optimizer step.
        step: u64,
        /// What is not finite.
        what: &'static str,
        /// Its value.
        value: f64,
    },
}
