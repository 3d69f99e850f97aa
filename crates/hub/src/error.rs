//! Errors of fetching.

use std::path::PathBuf;

use ureq::http::StatusCode;

use crate::{address::Address, client::RequestError};

/// An error of fetching an address.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The text is not an address.
    #[error("`{address}` is no address: {problem}; write hf://[datasets/]ORG/NAME@REVISION[/PATH]")]
    Address {
        /// The text as given.
        address: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The Hub did not answer, or the connection broke.
    #[error(
        "cannot fetch {address}: the network failed; try again, set HF_HUB_OFFLINE=1 if it has been fetched before, or \
         use a local path instead (--set KEY=PATH)"
    )]
    Network {
        /// The address.
        address: String,
        /// What failed.
        source: Box<RequestError>,
    },
    /// The Hub has no such repository, revision, file or folder.
    #[error("{address} does not exist: check the repository, the revision and the path at {page}")]
    NotFound {
        /// The address.
        address: String,
        /// The repository's page.
        page: String,
    },
    /// The Hub refuses this reader.
    #[error(
        "{address} is closed: the repository is gated or private, or its name is misspelt; accept its terms at {page}, \
         then set HF_TOKEN to a token that may read it"
    )]
    Closed {
        /// The address.
        address: String,
        /// The repository's page.
        page: String,
    },
    /// The cache lacks the file, and `HF_HUB_OFFLINE` forbids fetching it.
    #[error(
        "{address} is not in {}, and HF_HUB_OFFLINE is set; fetch it once without, or use a local path instead",
        .cache.display()
    )]
    NotCached {
        /// The address.
        address: String,
        /// The folder that was searched.
        cache: PathBuf,
    },
    /// The repository holds no file to fetch.
    #[error(
        "{address} holds nothing to fetch; of a model that is *.safetensors, *.json, *.jinja, *.txt and tokenizer.model: name another file with /PATH"
    )]
    Empty {
        /// The address.
        address: String,
    },
    /// A file's length or SHA-256 is not what the Hub states.
    #[error("{file} of {address} arrived damaged ({got} of {expected} bytes) and was discarded; try again")]
    Damaged {
        /// The address.
        address: String,
        /// Path of the file in the repository.
        file: String,
        /// Bytes that arrived.
        got: u64,
        /// Bytes that the Hub states.
        expected: u64,
    },
    /// The Hub answered something else.
    #[error("cannot fetch {address}")]
    Hub {
        /// The address.
        address: String,
        /// What the Hub, or the cache, said.
        source: Box<RequestError>,
    },
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl HubError {
    /// Turns a failed request for `address` into an error that says what to do.
    pub(crate) fn explain(address: &Address, endpoint: &str, error: RequestError) -> Self {
        let (page, address) = (address.page(endpoint), address.to_string());
        match error {
            RequestError::Status(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                Self::Closed { address, page }
            }
            RequestError::Status(StatusCode::NOT_FOUND) => Self::NotFound { address, page },
            error @ (RequestError::Connection(_) | RequestError::Interrupted(_)) => {
                Self::Network { address, source: Box::new(error) }
            }
            error => Self::Hub { address, source: Box::new(error) },
        }
    }
}
