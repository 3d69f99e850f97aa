//! The hyperparameter search of an experiment file.

use std::{collections::BTreeMap, num::NonZeroUsize};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::Value;

use super::schema;

/// Hyperparameter search: the same number of trials for each series, which is then compared at its
/// best trial.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchFile {
    /// Distributions of the settings that are searched for every series, by dotted key.
    #[serde(default)]
    #[schemars(schema_with = "drawn")]
    pub settings: BTreeMap<String, DrawnFile>,
    /// Distributions of further settings of single series, by name of the series and dotted key.
    #[serde(default)]
    #[schemars(schema_with = "drawn_by_series")]
    pub series: BTreeMap<String, BTreeMap<String, DrawnFile>>,
    /// Trials of each series at each value of x.
    pub trials: NonZeroUsize,
    /// Random seed of the trials. Default: 0.
    #[serde(default)]
    pub seed: u64,
    /// Successive halving: all trials train briefly, and only the best train longer. Default: every
    /// trial trains in full.
    #[serde(default)]
    pub halving: Option<HalvingFile>,
}

/// Distributions of settings, by dotted key.
fn drawn(generator: &mut SchemaGenerator) -> Schema {
    schema::by_key(schema::SETTING, &generator.subschema_for::<DrawnFile>())
}

/// Distributions of settings, by name of the series and dotted key.
fn drawn_by_series(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "additionalProperties": drawn(generator) })
}

/// Distribution of a setting: exactly one of the keys.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DrawnFile {
    /// One of these values.
    pub choice: Option<Vec<Value>>,
    /// Uniform between the two numbers.
    pub uniform: Option<[f64; 2]>,
    /// Log-uniform between the two numbers, both above 0.
    pub log_uniform: Option<[f64; 2]>,
}

/// Successive halving.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HalvingFile {
    /// Number of rungs. In the last one, trials train in full.
    pub rungs: NonZeroUsize,
    /// Reduction factor, 2 or more: from rung to rung, runs are this many times longer, and one in
    /// this many trials continues.
    pub factor: NonZeroUsize,
}
