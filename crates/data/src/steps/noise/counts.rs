//! Counts of what noise changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Training rows, pairs and completions that noise changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoiseCounts {
    /// Desirable training rows that became undesirable, by any kind of noise.
    pub flipped_desirable: u64,
    /// Undesirable training rows that became desirable, by any kind of noise.
    pub flipped_undesirable: u64,
    /// Training pairs whose sides were swapped, by any kind of noise.
    pub swapped_pairs: u64,
    /// Training rows whose completion was changed.
    pub changed_completions: u64,
    /// Counts of each kind of noise in the recipe.
    pub kinds: BTreeMap<String, NoiseKindCounts>,
}

/// Changes by one kind of noise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoiseKindCounts {
    /// Rows with original label true.
    pub desirable: ChangeCounts,
    /// Rows with original label false.
    pub undesirable: ChangeCounts,
    /// Pairs (`swap_pairs`) or prompts (`annotators`, `cycles`), for kinds that draw these instead
    /// of rows.
    pub drawn: Option<ChangeCounts>,
}

/// Items that could change, and those that did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeCounts {
    /// Items that this kind of noise can change.
    pub eligible: u64,
    /// Items that it changed: the rate times `eligible`, rounded.
    pub changed: u64,
}
