//! Errors of this crate.

use std::path::PathBuf;

use prospect_core::checksums::ChecksumError;

/// Failure to load, run or save a model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// Invalid model recipe.
    #[error("model recipe: {0}")]
    Recipe(String),
    /// Invalid or unsupported architecture.
    #[error("model architecture: {0}")]
    Architecture(String),
    /// Unknown or unusable device.
    #[error("device: {0}")]
    Device(String),
    /// A file differs from the hash that was recorded when its folder was written.
    #[error("{damage}; write the folder again, or remove {} to accept its files as they are", sums.display())]
    Damaged {
        /// File and hashes.
        damage: ChecksumError,
        /// File with the recorded hashes.
        sums: PathBuf,
    },
    /// Missing, damaged or mismatched weights.
    #[error("model weights: {0}")]
    Weights(String),
    /// Unusable tokenizer.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// Chat template that does not compile or render.
    #[error("chat template: {0}")]
    Template(String),
    /// Batch that no model can run.
    #[error("batch: {0}")]
    Batch(String),
}
