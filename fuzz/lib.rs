//! Code shared by all targets: reads arbitrary bytes as a user's file. An error is fine; a panic, a
//! hang or unbounded memory is not.

mod configs;
mod contained;
mod feedback;
mod models;

pub use configs::read_config;
pub use feedback::read_feedback;
pub use models::{CHECKPOINT_FILES, read_checkpoint, read_gguf, read_template, write_seeds};
