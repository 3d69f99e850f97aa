//! `manifest.json`: what a dataset was made of and every count on the way.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use crate::{ClassWeights, ContradictionCounts, DataError, DuplicateCounts, ImbalanceCounts, InputFile, MixCounts, NoiseCounts, ReadingCounts, SelectionCounts, SplitCounts};

/// The name of the file in a dataset directory.
pub(crate) const FILE: &str = "manifest.json";

/// What a dataset was made of and what happened on the way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`Pipeline::fingerprint`](crate::Pipeline::fingerprint) of the recipe.
    pub fingerprint: String,
    /// The resolved recipe.
    pub config: serde_json::Value,
    /// The files read.
    pub inputs: Vec<InputFile>,
    /// Rows read, by outcome.
    pub reading: ReadingCounts,
    /// Different prompts among the pairs read.
    pub unique_prompts: u64,
    /// `unique_prompts` as a share of the pairs.
    pub unique_prompt_fraction: f64,
    /// Completions with both labels.
    pub contradictions: ContradictionCounts,
    /// Repeated judgements, and prompts of both splits that are nearly the same.
    pub duplicates: DuplicateCounts,
    /// Training rows dropped because the source's test split has their prompt too.
    pub leaked_rows_dropped: u64,
    /// What selection dropped.
    pub selection: SelectionCounts,
    /// Training rows dropped because only one side of a pair stays.
    pub one_per_pair_dropped: u64,
    /// What the mix took of each source, if the recipe mixes.
    pub mix: BTreeMap<String, MixCounts>,
    /// What imbalance kept and dropped.
    pub imbalance: ImbalanceCounts,
    /// What noise changed.
    pub noise: NoiseCounts,
    /// What the training split holds.
    pub train: SplitCounts,
    /// Weights that make up for the training split's classes, unless one is empty.
    pub class_weights: Option<ClassWeights>,
    /// What the test split holds.
    pub test: SplitCounts,
    /// Share of test pairs whose preferred completion has the higher score, ties counting half, where the source
    /// scores all of them: what a perfect judge of that score reaches.
    pub oracle_accuracy: Option<f64>,
    /// The least and the greatest true utility that a completion can have, where the source knows it.
    pub utility_range: Option<(f64, f64)>,
    /// What a user should know before using the dataset.
    pub warnings: Vec<String>,
}

/// Reads the manifest of a dataset directory.
pub fn read_manifest(dataset: &Path) -> Result<Manifest, DataError> {
    let file = dataset.join(FILE);
    if !file.exists() {
        return Err(DataError::Missing { file, dataset: dataset.to_owned() });
    }
    serde_json::from_slice(&fs_err::read(&file)?).map_err(|error| DataError::Schema {
        file,
        column: String::new(),
        message: format!("is not a manifest of this version ({error})"),
    })
}
