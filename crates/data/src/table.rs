//! The table of all rows of a dataset in preparation, without their texts.

pub(crate) mod corruption;
mod counts;
pub(crate) mod feedback;
pub(crate) mod ids;
pub(crate) mod minhash;

pub use counts::SplitCounts;
