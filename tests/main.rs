//! End-to-end tests: the binary as a user runs it. One test binary, so that it links once.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

mod prepare;
mod support;
mod sweep;
