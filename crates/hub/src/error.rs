//! Errors of downloads.

use std::path::PathBuf;

use crate::RequestError;

/// Error of resolving or downloading an address.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Malformed address.
    #[error("`{address}` is not a Hub address: {problem}; write hf://[datasets/]ORG/NAME@REVISION[/PATH]")]
    Address {
        /// Text as given.
        address: String,
        /// Problem of the address.
        problem: &'static str,
    },
    /// Network error.
    #[error(
        "cannot download {address}: {cause}; try again, set HF_HUB_OFFLINE=1 if it is in the cache, or use a local path"
    )]
    Network {
        /// Requested address.
        address: String,
        /// Cause.
        cause: Box<RequestError>,
    },
    /// Unknown repository, revision, file or folder.
    #[error("{address} does not exist: check repository, revision and path at {page}")]
    NotFound {
        /// Requested address.
        address: String,
        /// URL of the repository's page.
        page: String,
    },
    /// No access: gated or private repository.
    #[error(
        "no access to {address}: the repository is gated or private, or its name is misspelt; accept its terms at {page} \
         and set HF_TOKEN to a token with read access"
    )]
    NoAccess {
        /// Requested address.
        address: String,
        /// URL of the repository's page.
        page: String,
    },
    /// File that is not cached, with `HF_HUB_OFFLINE` set.
    #[error(
        "{address} is not in the cache {} and HF_HUB_OFFLINE is set; unset it to download, or use a local path",
        .cache.display()
    )]
    NotCached {
        /// Requested address.
        address: String,
        /// Cache folder.
        cache: PathBuf,
    },
    /// Repository without files to download.
    #[error(
        "{address} has no files to download: of a whole model, only *.safetensors, *.json, *.jinja, *.txt and \
         tokenizer.model are downloaded; add /PATH for another file"
    )]
    Empty {
        /// Requested address.
        address: String,
    },
    /// File with a wrong size or SHA-256.
    #[error("{file} of {address} is corrupt ({got} of {expected} bytes) and was deleted; try again")]
    Corrupt {
        /// Requested address.
        address: String,
        /// Path of the file in the repository.
        file: String,
        /// Bytes received.
        got: u64,
        /// Size on the Hub in bytes.
        expected: u64,
    },
    /// Other error of the Hub or the cache.
    #[error("cannot download {address}: {cause}")]
    Hub {
        /// Requested address.
        address: String,
        /// Cause.
        cause: Box<RequestError>,
    },
    /// File system error.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
