//! Writing a dataset directory and reading it back.

pub(crate) mod card;
pub(crate) mod checksums;
mod class_weights;
pub(crate) mod completion_store;
mod llama_factory;
pub(crate) mod manifest;
pub(crate) mod parquet;
mod rejected;
pub(crate) mod second_pass;

pub use checksums::dataset_fingerprint;
pub use class_weights::BalancedClassWeights;
pub use llama_factory::{LlamaFactoryCounts, export_llama_factory};
pub use manifest::{Manifest, read_manifest};
pub use parquet::{Batches, DatasetFile, read_binary, read_binary_batches, read_columns, read_pairs};
pub use rejected::read_rejected;
