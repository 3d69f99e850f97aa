//! Downloads from the Hugging Face Hub: `hf://` addresses to local files.
//!
//! | address | local path |
//! |---|---|
//! | `hf://ORG/NAME@REVISION` | folder of a model: top-level `*.safetensors`, `*.json`, … |
//! | `hf://ORG/NAME@REVISION/PATH` | one file, or a folder with its subfolders |
//! | `hf://datasets/ORG/NAME@REVISION[/PATH]` | same for a dataset; without a path, all files |
//!
//! Of a whole model, only the top-level `*.safetensors`, `*.json`, `*.jinja`, `*.txt` and
//! `tokenizer.model`, and the templates of `additional_chat_templates/`, are downloaded. Other
//! formats duplicate the weights.
//!
//! The revision is a branch, a tag or a commit. Prefer a commit: a branch can move. The cache is
//! that of Python's `huggingface_hub`. Interrupted downloads resume, and large files are verified
//! by their SHA-256.
//!
//! `HF_TOKEN` (or the token file of `hf auth login`), `HF_ENDPOINT`, `HF_HOME` and `HF_HUB_CACHE`
//! work as they do in `huggingface_hub`. `HF_HUB_OFFLINE=1` uses the cache only. Proxies are read
//! from `HTTPS_PROXY` and `NO_PROXY`.
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
mod cache;
mod client;
mod error;
mod fetch;
mod request_error;
mod settings;

pub use error::HubError;
pub use request_error::RequestError;

/// Returns true if `text` is a Hub address, not a local path.
pub fn is_address(text: &str) -> bool {
    text.starts_with(address::SCHEME)
}

/// Settings of the Hub, from the environment variables.
#[derive(Debug, Clone)]
pub struct HubStatus {
    /// Base URL of the Hub.
    pub endpoint: String,
    /// Folder of the cache.
    pub cache: PathBuf,
    /// Use the cache only (`HF_HUB_OFFLINE`).
    pub offline: bool,
    /// A token is set or saved. It is not verified.
    pub has_token: bool,
}

/// Returns the settings of the Hub, without the token.
pub fn status() -> HubStatus {
    let settings::HubSettings { endpoint, token, cache, offline } = settings::HubSettings::from_env();
    HubStatus { endpoint, cache, offline, has_token: token.is_some() }
}

/// Returns the local file or folder of an address. Downloads files that are not cached.
pub fn fetch(address: &str) -> Result<PathBuf, HubError> {
    fetch::fetch(address, &settings::HubSettings::from_env())
}

/// Returns the local file or folder of an address if it is cached. Downloads nothing.
pub fn cached(address: &str) -> Result<Option<PathBuf>, HubError> {
    let settings = settings::HubSettings { offline: true, ..settings::HubSettings::from_env() };
    match fetch::fetch(address, &settings) {
        Ok(path) => Ok(Some(path)),
        Err(HubError::NotCached { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
