//! Evaluation of small models that are trained for the test.

// Test helpers panic like tests.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod capabilities;
mod diagnosis;
mod generations;
mod support;
