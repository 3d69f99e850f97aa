//! Errors of collective calls.

/// Error of a collective call. Except for [`Interrupted`](Self::Interrupted), none can be retried:
/// the process ends and resumes from a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CollectiveError {
    /// A rank ended or lost its connection.
    #[error(
        "lost rank {rank}{detail}: all ranks stop; run the same command again to resume from the last checkpoint"
    )]
    RankLost {
        /// The lost rank.
        rank: usize,
        /// Cause in parentheses with a leading space, or empty.
        detail: String,
    },
    /// A rank sent data of an unexpected length or content, so the ranks no longer make the same
    /// calls.
    #[error("rank {rank} is out of step: start all ranks with the same version and the same command")]
    OutOfStep {
        /// The rank that differs.
        rank: usize,
    },
    /// A rank could not take part in the call, and all ranks give up what they did.
    #[error("rank {rank} interrupted the other ranks")]
    Interrupted {
        /// The rank that called [`interrupt`](crate::Collective::interrupt), or that had too
        /// little memory to take part.
        rank: usize,
    },
    /// Error of candle or of the device.
    #[error(transparent)]
    Device(#[from] candle_core::Error),
    /// The group cannot be formed.
    #[error("{0}")]
    Launch(String),
}

impl From<CollectiveError> for candle_core::Error {
    /// Keeps an error of the device as it is, and that of an interruption as its source, so that a
    /// lack of memory is recognised.
    fn from(error: CollectiveError) -> Self {
        match error {
            CollectiveError::Device(error) => error,
            CollectiveError::Interrupted { .. } => {
                Self::WrappedContext { wrapped: Box::new(error), context: "collective call".to_owned() }
            }
            other => Self::wrap(other),
        }
    }
}
