//! Reasons for ending a run early.

/// Reason why a run ended before its last step, other than an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StopReason {
    /// A stopping rule applied.
    #[error("step {step}: {reason}")]
    EarlyStop {
        /// Optimizer steps taken.
        step: u64,
        /// The rule and the value that triggered it.
        reason: String,
    },
    /// Another process has taken over the run.
    #[error("another process has taken over the run")]
    TakenOver,
    /// The process, or that of another rank, was asked to end. The run resumes from a checkpoint of
    /// this step.
    #[error("step {step}: interrupted")]
    Interrupted {
        /// Optimizer steps taken.
        step: u64,
    },
    /// Another rank stopped or failed.
    #[error("rank {rank} ended the run: {reason}")]
    OtherRank {
        /// Number of that rank.
        rank: usize,
        /// Its reason or error.
        reason: String,
    },
}
