//! Errors of this crate.

use std::path::PathBuf;

use prospect_core::{checksums::ChecksumError, not_fetched::NotFetched};
use prospect_dist::CollectiveError;

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
    /// The weights are not on this machine, and nothing may be downloaded.
    #[error("{0}")]
    NotFetched(#[from] NotFetched),
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

/// Returns true if an operation failed because its device has too little free memory.
pub fn is_out_of_memory(error: &candle_core::Error) -> bool {
    use candle_core::Error as E;
    match error {
        E::WithBacktrace { inner, .. } | E::Context { inner, .. } | E::WithPath { inner, .. } => {
            is_out_of_memory(inner)
        }
        // Codes of the driver and of cuBLAS, which candle keeps as opaque errors.
        E::Cuda(source) => {
            let code = format!("{source:?} {source}");
            ["CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED"]
                .iter()
                .any(|known| code.contains(known))
        }
        // Another rank has run out of memory.
        E::WrappedContext { wrapped, .. } => {
            matches!(wrapped.downcast_ref(), Some(CollectiveError::Interrupted { .. }))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_memory_is_recognised_behind_contexts() {
        #[derive(Debug, thiserror::Error)]
        #[error("code {0}")]
        struct Driver(&'static str);
        let driver = |code| candle_core::Error::Cuda(Box::new(Driver(code)));
        for code in ["CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED"] {
            assert!(is_out_of_memory(&driver(code)));
            assert!(is_out_of_memory(&driver(code).context("attention").bt()));
            assert!(is_out_of_memory(&CollectiveError::Device(driver(code)).into()));
        }
        let interrupted = candle_core::Error::from(CollectiveError::Interrupted { rank: 1 });
        assert!(is_out_of_memory(&interrupted.context("gradient").bt()));
        assert!(!is_out_of_memory(&CollectiveError::OutOfStep { rank: 1 }.into()));
        assert!(!is_out_of_memory(&driver("CUDA_ERROR_ILLEGAL_ADDRESS")));
        assert!(!is_out_of_memory(&candle_core::Error::msg("CUDA_ERROR_OUT_OF_MEMORY in a text")));
    }
}
