//! Code shared by all targets: reads arbitrary bytes as a user's file or a service's answer. An error
//! is fine; a panic, a hang or unbounded memory is not.

mod configs;
mod contained;
mod feedback;
mod models;
mod services;

pub use configs::read_config;
pub use feedback::read_feedback;
pub use models::{CHECKPOINT_FILES, read_checkpoint, read_gguf, read_template};
pub use services::{ask_judge, ask_slurm};

/// Writes what fuzzing of models and services starts from to `corpus/` in a folder.
pub fn write_seeds(folder: &std::path::Path) -> std::io::Result<()> {
    models::write_seeds(folder)?;
    services::write_seeds(folder)
}
