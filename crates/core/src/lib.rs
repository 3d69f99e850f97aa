//! Foundations shared by all stages of Prospect.
//!
//! * [`backoff`]: waits between attempts at a request.
//! * [`checksums`]: hashes of files, recorded when they are written and checked when they are read.
//! * [`config`]: strict YAML with overrides; errors name file, line and key.
//! * [`disk`]: free disk space, and the space that a folder uses.
//! * [`draw`]: randomness from keyed hashes of rows, independent of order and threads.
//! * [`errors`]: error chains.
//! * [`files`]: atomic writes of files and directories, and fingerprints of values.
//! * [`interrupt`]: Ctrl-C and SIGTERM.
//! * [`memory`]: memory use of this process and size of this machine's memory.
//! * [`not_fetched`]: the error of inputs that a plan names but does not need.
//! * [`progress`]: a progress bar on a terminal, plain lines elsewhere.
//! * [`sample`]: mean, median and the lowest items of a sample.
//! * [`secret`]: API keys and tokens that do not show.
//! * [`shell`]: quoting for shell command lines.
//! * [`visible`]: text of unknown origin, escaped for display.
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

pub mod backoff;
pub mod checksums;
pub mod config;
pub mod contain;
pub mod disk;
pub mod draw;
pub mod errors;
pub mod files;
pub mod interrupt;
pub mod memory;
pub mod not_fetched;
pub mod progress;
pub mod sample;
pub mod secret;
pub mod shell;
pub mod visible;
