//! Parity of the decoder with other implementations, on golden values, real models and files.

// Helpers of tests may panic.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod checkpoints;
mod classifiers;
mod families;
mod gemma;
mod gguf;
mod hostile;
mod parity;
mod recipes;
mod stories;
mod tokenizers;
