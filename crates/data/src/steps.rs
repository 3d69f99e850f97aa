//! The steps of a preparation, each a function from the table and its settings to counts.
//!
//! They run in this order: [`corrections`], [`contradictions`], [`duplicates`] (exact), [`split`],
//! [`duplicates`] (near), [`selection`], [`one_per_pair`] or [`one_per_prompt`], [`mixing`],
//! [`imbalance`], [`noise`]. Two only count: [`quality`] before them, [`log_counts`] after them.

pub(crate) mod contradictions;
pub(crate) mod corrections;
pub(crate) mod duplicates;
pub(crate) mod imbalance;
pub(crate) mod log_counts;
pub(crate) mod mixing;
pub(crate) mod noise;
pub(crate) mod one_per_pair;
pub(crate) mod one_per_prompt;
pub(crate) mod quality;
pub(crate) mod selection;
pub(crate) mod split;
mod transitivity;
