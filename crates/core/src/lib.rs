//! What every stage of Prospect shares.
//!
//! * [`config`]: YAML documents with overrides, read into strict types; errors name file, line and key.
//! * [`draw`]: randomness as a keyed hash of a row, so that results depend on neither order nor threads.
//! * [`errors`]: an error with all of its causes.
//! * [`files`]: files and directories that appear whole or not at all, and fingerprints of values.
//! * [`memory`]: of this process and of this machine.
//! * [`progress`]: a bar with rate and time left on a terminal, plain lines elsewhere.
//! * [`sample`]: mean, median and the lowest items of a sample.
//! * [`shell`]: words of a shell's command line.
//! * [`visible`]: text of unknown origin, made safe to show.
//!
//! ```
//! use prospect_core::{config::Document, draw::Draw};
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Recipe { seed: u64 }
//!
//! let mut document = Document::from_text("recipe.yaml", "seed: 1")?;
//! document.set_text("seed=7")?;
//! let recipe: Recipe = document.read()?;
//! let kept = Draw::new(recipe.seed, "keep").lowest(&["a", "b", "c"], 2);
//! assert_eq!(kept.iter().filter(|kept| **kept).count(), 2);
//! # Ok::<(), prospect_core::config::ConfigError>(())
//! ```

pub mod config;
pub mod draw;
pub mod errors;
pub mod files;
pub mod memory;
pub mod progress;
pub mod sample;
pub mod shell;
pub mod visible;
