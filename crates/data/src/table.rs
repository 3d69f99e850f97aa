//! The table of all rows of a dataset in preparation, without their texts.

pub(crate) mod corruption;
mod counts;
pub(crate) mod feedback;
pub(crate) mod group_salt;
pub(crate) mod ids;
pub(crate) mod log_entry;
pub(crate) mod minhash;
pub(crate) mod timestamp;

pub use counts::SplitCounts;
