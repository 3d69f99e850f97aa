//! `hf://` addresses to local files.
//!
//! | address | local path |
//! |---|---|
//! | `hf://ORG/NAME@REVISION` | folder of a model, with `*.safetensors`, `*.json`, `*.txt` and `tokenizer.model` of its top |
//! | `hf://ORG/NAME@REVISION/PATH` | one file, or a folder with all files below it |
//! | `hf://datasets/ORG/NAME@REVISION[/PATH]` | the same of a dataset; without a path, all its files |
//!
//! The revision is a branch, a tag or, best, a commit: without one the same recipe would mean different bytes on
//! different days. Files land in the cache that Python's `huggingface_hub` uses, and are fetched once.
//!
//! `HF_TOKEN` (or the token file that `hf auth login` writes), `HF_ENDPOINT`, `HF_HOME` and `HF_HUB_CACHE` mean what
//! they mean there. With `HF_HUB_OFFLINE=1` nothing is asked of the network: the path is what the cache holds.
//!
//! ```no_run
//! let text = "hf://HuggingFaceTB/SmolLM2-135M-Instruct@main";
//! if prospect_hub::is_address(text) {
//!     let folder = prospect_hub::fetch(text)?;
//!     assert!(folder.join("config.json").is_file());
//! }
//! # Ok::<(), prospect_hub::HubError>(())
//! ```

use std::path::PathBuf;

mod address;
mod error;
#[cfg(test)]
mod fake_hub;
mod fetch;
mod meter;
mod settings;

pub use error::HubError;

/// Whether `text` is meant as an address on the Hub rather than as a local path.
pub fn is_address(text: &str) -> bool {
    text.starts_with(address::SCHEME)
}

/// The local file or folder that `address` names, after fetching what the cache lacks.
pub fn fetch(address: &str) -> Result<PathBuf, HubError> {
    fetch::fetch(address, &settings::Settings::from_env())
}
