//! Shared parts of the tests of several crates. Only ever a dev-dependency.
//!
//! * [`fake_hub`]: a Hugging Face Hub on the loopback interface.
//! * [`emulator`]: CUDA kernels on CPU threads.
//! * [`CountingAllocator`]: bytes in use and their peak, for tests in a process of their own.
//! * [`flipped`] and [`mutated`]: damaged copies of a file.
//! * [`gguf_name`]: names of tensors in GGUF files.
//! * [`uniform_values`]: weights that Python scripts draw too.
//! * [`write_reward_model`]: small reward models with random weights.
//! * [`json_schema`]: validation against our JSON Schemas.
//! * [`test_data`], [`test_model`] and [`test_gemma`]: files that are not in the repository.

// Helpers of tests may panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]

mod counting_allocator;
mod damage;
pub mod emulator;
pub mod fake_hub;
mod gguf_name;
pub mod json_schema;
mod reward_model;
mod split_mix;

use std::path::PathBuf;

pub use counting_allocator::{CountingAllocator, bytes_in_use, peak_bytes, peak_of, reset_peak};
pub use damage::{flipped, fuzz_rounds, mutated};
pub use gguf_name::gguf_name;
pub use reward_model::write_reward_model;
pub use split_mix::uniform_values;

/// Returns a path in the folder of real feedback. Tests that call it are marked
/// `#[ignore = "needs PROSPECT_TEST_DATA"]`.
pub fn test_data(path: &str) -> PathBuf {
    from_variable("PROSPECT_TEST_DATA").join(path)
}

/// Returns the GGUF model to test with. Tests that call it are marked
/// `#[ignore = "needs PROSPECT_TEST_MODEL"]`.
pub fn test_model() -> PathBuf {
    from_variable("PROSPECT_TEST_MODEL")
}

/// Returns Gemma 3 270M as a GGUF file. Tests that call it are marked
/// `#[ignore = "needs PROSPECT_TEST_GEMMA"]`.
pub fn test_gemma() -> PathBuf {
    from_variable("PROSPECT_TEST_GEMMA")
}

fn from_variable(name: &str) -> PathBuf {
    match std::env::var_os(name) {
        Some(path) => path.into(),
        None => panic!("set {name}, or leave ignored tests out"),
    }
}
