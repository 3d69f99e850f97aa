//! Counts of the rows, pairs and prompts in a split.

use serde::{Deserialize, Serialize};

/// Size of a split.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitCounts {
    /// Distinct prompts.
    pub prompts: u64,
    /// Rows of the paired file.
    pub pairs: u64,
    /// Rows of the binary file with label true.
    pub n_desirable: u64,
    /// Rows of the binary file with label false.
    pub n_undesirable: u64,
}
