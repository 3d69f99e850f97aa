//! Errors of single requests to the Hub.

use std::io;

use ureq::http::StatusCode;

/// Error of a request.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// HTTP error status.
    #[error("the Hub returned status {0}")]
    Status(StatusCode),
    /// Connection error.
    #[error(transparent)]
    Connection(#[from] Box<ureq::Error>),
    /// Incomplete response.
    #[error("incomplete response: {0}")]
    Interrupted(io::Error),
    /// Response that does not match the API.
    #[error("unexpected response: {0}")]
    Unexpected(String),
    /// Error writing the cache.
    #[error(transparent)]
    Cache(io::Error),
}

impl RequestError {
    /// Returns true if another attempt may succeed.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Status(status) => {
                status.is_server_error()
                    || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(status)
            }
            Self::Connection(_) | Self::Interrupted(_) => true,
            Self::Unexpected(_) | Self::Cache(_) => false,
        }
    }
}

impl From<ureq::Error> for RequestError {
    fn from(error: ureq::Error) -> Self {
        Self::Connection(Box::new(error))
    }
}
