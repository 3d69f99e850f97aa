//! The steps of a preparation, each a function from the table and its settings to counts.
//!
//! They run in this order: [`contradictions`], [`duplicates`] (exact), [`split`], [`duplicates`]
//! (near), [`selection`], [`one_per_pair`], [`mixing`], [`imbalance`], [`noise`].

pub(crate) mod contradictions;
pub(crate) mod duplicates;
pub(crate) mod imbalance;
pub(crate) mod mixing;
pub(crate) mod noise;
pub(crate) mod one_per_pair;
pub(crate) mod selection;
pub(crate) mod split;
