//! Errors of training.

use prospect_dist::CollectiveError;
use prospect_model::{ModelError, is_out_of_memory};

use crate::StopReason;

/// Error that prevents training from starting or continuing.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A file operation failed.
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
    /// A collective operation failed.
    #[error(transparent)]
    Collective(#[from] prospect_dist::CollectiveError),
    /// The run directory failed.
    #[error(transparent)]
    Runs(#[from] prospect_runs::RunsError),
    /// Invalid training settings.
    #[error("training settings: {0}")]
    Settings(String),
    /// Unusable training data.
    #[error("training data: {0}")]
    Examples(String),
    /// A run was stopped where its caller needs a policy.
    #[error("training ended before its last step: {0}")]
    Incomplete(StopReason),
    /// A rank would resume from another step than rank 0.
    #[error(
        "rank {rank} finds a checkpoint of step {found}, rank 0 one of step {first}; check that all machines see the same folder"
    )]
    CheckpointMismatch {
        /// Number of the rank.
        rank: usize,
        /// Step that it finds; 0 if none.
        found: u64,
        /// Step that rank 0 finds; 0 if none.
        first: u64,
    },
    /// The weights of the ranks differ.
    #[error(
        "step {step}: the trained weights differ between ranks; use machines of one kind, with the same version of prospect"
    )]
    WeightsDiffer {
        /// Optimizer steps taken.
        step: u64,
    },
    /// A step does not fit into memory, even with all blocks recomputed and the smallest
    /// micro-batch.
    #[error(
        "step {step}: out of memory with {micro_batch_size} completions per micro-batch and all blocks recomputed; \
         lower train.max_length, quantize frozen weights, or use a larger device (prospect plan shows what fits)"
    )]
    OutOfMemory {
        /// Optimizer step, from 0.
        step: u64,
        /// Completions per micro-batch.
        micro_batch_size: usize,
    },
    /// Loss, gradient, trained weights or held-out log-probs are not finite.
    #[error("step {step}: the {what} is {value}; {}", diverged_advice(*step))]
    Diverged {
        /// Optimizer step, from 0.
        step: u64,
        /// Name of the value.
        what: &'static str,
        /// The value.
        value: f64,
    },
}

/// What to do about a value that is not finite after `step` steps.
fn diverged_advice(step: u64) -> &'static str {
    match step {
        0 => {
            "no step was taken yet, so check the weights that the run starts from: they are damaged, not finite, or too \
             large for the model's dtype"
        }
        _ => "lower the learning rate, or look at the metrics of the steps before",
    }
}

impl TrainError {
    /// Returns true if a tensor operation ran out of the device's memory, on this rank or on one
    /// that interrupted it.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        match self {
            Self::Tensor(error)
            | Self::Model(ModelError::Tensor(error))
            | Self::Collective(CollectiveError::Device(error)) => is_out_of_memory(error),
            Self::Collective(CollectiveError::Interrupted { .. }) => true,
            _ => false,
        }
    }
}
