//! Held-out preference metrics and the statistics of comparing methods.

pub mod stats;
