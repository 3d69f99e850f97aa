//! `manifest.json`: the recipe and inputs of a dataset, and the counts of every step.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use super::checksums;
use crate::{
    BalancedClassWeights, ContradictionCounts, Contradictions, CorrectionCounts, DataError, DuplicateCounts,
    ImbalanceCounts, InputFile, LogCounts, MixCounts, NoiseCounts, QualityCounts, ReadingCounts,
    SelectionCounts, SplitCounts,
};

/// Name of the manifest in a dataset directory.
pub(crate) const FILE: &str = "manifest.json";

/// Record of a preparation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`Pipeline::fingerprint`](crate::Pipeline::fingerprint) of the recipe.
    pub fingerprint: String,
    /// Resolved recipe.
    pub config: serde_json::Value,
    /// Input files.
    pub inputs: Vec<InputFile>,
    /// Input rows by outcome, rejected rows by reason.
    pub reading: ReadingCounts,
    /// Distinct prompts in the input.
    pub unique_prompts: u64,
    /// `unique_prompts` divided by the number of pairs.
    pub unique_prompt_fraction: f64,
    /// Quality counts of each source, on the rows as read.
    #[serde(default)]
    pub quality: BTreeMap<String, QualityCounts>,
    /// Pairs and rows that the lists `exclude` and `flip` changed.
    #[serde(default)]
    pub corrections: CorrectionCounts,
    /// Completions with contradictory labels.
    pub contradictions: ContradictionCounts,
    /// Repeated judgements, and near duplicates between the splits.
    pub duplicates: DuplicateCounts,
    /// Training rows dropped because their prompt is in the test split.
    pub leaked_rows_dropped: u64,
    /// Training rows dropped because their group is in the test split, with `split.by: group`.
    #[serde(default)]
    pub leaked_group_rows_dropped: u64,
    /// Rows and prompts dropped by selection.
    pub selection: SelectionCounts,
    /// Training rows dropped by `one_per_pair`.
    pub one_per_pair_dropped: u64,
    /// Training rows dropped by `one_per_prompt`.
    #[serde(default)]
    pub one_per_prompt_dropped: u64,
    /// Prompts of each source in the mix; empty if the recipe does not mix.
    pub mix: BTreeMap<String, MixCounts>,
    /// Rows kept and dropped by imbalance.
    pub imbalance: ImbalanceCounts,
    /// Rows changed by noise.
    pub noise: NoiseCounts,
    /// Size of the training split.
    pub train: SplitCounts,
    /// Weights that balance the classes of the training split; None if a class is empty.
    pub class_weights: Option<BalancedClassWeights>,
    /// Size of the test split.
    pub test: SplitCounts,
    /// Groups and times of both splits; None if no source gives them.
    #[serde(default)]
    pub logs: Option<LogCounts>,
    /// Fraction of test pairs whose chosen completion has the higher score, ties counting half: the
    /// accuracy of a judge that knows the scores. None unless the source scores all of them.
    pub oracle_accuracy: Option<f64>,
    /// AUC of the scores of test rows: the probability that a random desirable completion has a
    /// higher score than a random undesirable one. None unless the source scores all of them.
    #[serde(default)]
    pub oracle_auc: Option<f64>,
    /// Range of the true utility of a completion, if the source knows it.
    pub utility_range: Option<(f64, f64)>,
    /// Settings without effect, and splits that lack something.
    pub warnings: Vec<String>,
}

/// The part of a resolved recipe that names the policy for contradictory labels.
#[derive(Deserialize)]
struct ContradictionPolicy {
    contradictions: Contradictions,
}

impl Manifest {
    /// Policy for contradictory labels that the recipe asked for.
    pub fn contradiction_policy(&self) -> Option<Contradictions> {
        let policy = ContradictionPolicy::deserialize(&self.config).ok()?;
        Some(policy.contradictions)
    }
}

/// Reads the manifest of a dataset directory.
pub fn read_manifest(dataset: &Path) -> Result<Manifest, DataError> {
    checksums::check(dataset, FILE)?;
    let file = dataset.join(FILE);
    serde_json::from_slice(&fs_err::read(&file)?).map_err(|error| DataError::Schema {
        file,
        column: String::new(),
        message: format!("is not a manifest of this version ({error})"),
    })
}
