//! Errors of single requests to the Hub.

use std::{io, time::Duration};

use prospect_core::backoff;
use ureq::{
    Body,
    http::{Response, StatusCode},
};

/// Error of a request.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// HTTP error status, and the wait that the server asks for.
    #[error("the Hub returned status {0}")]
    Status(StatusCode, Option<Duration>),
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
    /// Error of a response whose status is not a success.
    pub(crate) fn status(response: &Response<Body>) -> Self {
        let header = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        Self::Status(response.status(), header.and_then(backoff::retry_after))
    }

    /// Returns the wait that the server asks for before another attempt.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status(_, wait) => *wait,
            _ => None,
        }
    }

    /// Returns true if another attempt may succeed.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Status(status, _) => {
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
