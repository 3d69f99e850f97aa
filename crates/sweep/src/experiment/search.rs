//! A search for the settings at which each series is at its best, as typed.

use std::{collections::BTreeMap, num::NonZeroUsize};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::schema;

/// A search for the settings at which each series is at its best, with as many trials for each.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchFile {
    /// What is drawn for the trials of every series, by dotted key.
    #[serde(default)]
    #[schemars(schema_with = "schema::drawn")]
    pub settings: BTreeMap<String, DrawnFile>,
    /// What is drawn beside it for the trials of single series, by name and dotted key.
    #[serde(default)]
    #[schemars(schema_with = "schema::drawn_of_series")]
    pub series: BTreeMap<String, BTreeMap<String, DrawnFile>>,
    /// Trials of each series at each value of x.
    pub trials: NonZeroUsize,
    /// Decides what is drawn (0).
    #[serde(default)]
    pub seed: u64,
    /// Successive halving: short runs first, and longer ones of the best trials (every trial is trained in full).
    #[serde(default)]
    pub halving: Option<HalvingFile>,
}

/// Where a setting is drawn from: one of these.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DrawnFile {
    /// One of these values.
    pub choice: Option<Vec<Value>>,
    /// Any number from the first to the second.
    pub uniform: Option<[f64; 2]>,
    /// Any number from the first to the second, small ones as often as large ones: its logarithm is uniform.
    pub log_uniform: Option<[f64; 2]>,
}

/// Successive halving.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HalvingFile {
    /// How often trials are compared; in the last of them they are trained in full.
    pub rungs: NonZeroUsize,
    /// From rung to rung, runs are so many times longer, and one of so many trials goes on: 2 or more.
    pub factor: NonZeroUsize,
}
