//! The plan of a sweep: every run with resolved settings.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use prospect_core::{files::fingerprint, not_fetched::NotFetched};
use prospect_data::{Manifest, Pipeline, SyntheticWorld, prepare, prepared, read_manifest};
use prospect_model::Recipe;
use prospect_runs::{Axis, PrimaryContrast, PublishedResults, Resample};
use prospect_train::Settings;
use serde_json::Value;

use crate::{
    SweepError,
    config::{BaseModel, CheckpointsFile, EvaluateFile, StopFile},
    search::{SearchPlan, TrialId},
};

mod base_model;
mod capabilities;
mod check;
mod describe;
mod primary;
mod record;
mod reference;
mod resolve;
mod run_filter;

pub(crate) use base_model::check as check_base_model;
pub(crate) use capabilities::PlannedTests;
pub use check::{CheckedExperiment, check};
pub use describe::PlannedState;
pub use run_filter::RunFilter;

/// Plan of a sweep: the datasets, models, SFT stages and runs of an experiment.
#[derive(Debug, Clone)]
pub struct SweepPlan {
    /// Name of the experiment.
    pub name: String,
    /// The experiment's question.
    pub question: String,
    /// The x axis and the series axis of the figures.
    pub axes: [Axis; 2],
    /// Series that all others are compared with.
    pub baseline: String,
    /// Names of the series that are evaluated without training.
    pub baselines: Vec<String>,
    /// Comparison that is tested alone.
    pub primary: Option<PrimaryContrast>,
    /// Significance level of adjusted p-values, if it is not the default.
    pub level: Option<f64>,
    /// Parts of training that every seed draws again.
    pub resample: Vec<Resample>,
    /// Need for a base model.
    pub base_model: Option<BaseModel>,
    /// Published numbers, one set for each measure.
    pub references: Vec<PublishedResults>,
    /// Evaluation on held-out data.
    pub evaluate: EvaluateFile,
    /// Capability tests.
    pub(crate) tests: PlannedTests,
    /// Checkpoints of the runs.
    pub checkpoints: CheckpointsFile,
    /// Early stopping.
    pub stop: Option<StopFile>,
    /// Datasets, without duplicates.
    pub datasets: Vec<PlannedDataset>,
    /// Models, without duplicates.
    pub models: Vec<Recipe>,
    /// Models that are evaluated without training, without duplicates.
    pub policies: Vec<Recipe>,
    /// SFT stages, which runs share.
    pub sft: Vec<SftStage>,
    /// Runs; with a search, those of the first rung.
    pub runs: Vec<ResolvedRun>,
    /// Search, if there is one.
    pub search: Option<SearchPlan>,
    /// Runs of each later rung, of every trial that may reach it.
    pub(crate) later_rungs: Vec<Vec<ResolvedRun>>,
    /// Full-length runs of every trial under fresh seeds. Those of the winners are compared: runs
    /// that won are partly lucky in their seeds.
    pub(crate) retrained: Vec<ResolvedRun>,
}

/// Dataset that runs train on.
#[derive(Debug, Clone)]
pub struct PlannedDataset {
    /// Origin of the dataset.
    pub source: DatasetSource,
    /// Folder of the prepared dataset.
    pub path: PathBuf,
}

/// Origin of a dataset.
#[derive(Debug, Clone)]
pub enum DatasetSource {
    /// A recipe, by which the sweep prepares the dataset.
    Recipe(Box<Pipeline>),
    /// A recipe whose inputs are not on this machine. It can be planned, not prepared.
    NotFetched {
        /// First missing input.
        missing: NotFetched,
        /// Hash of the recipe.
        fingerprint: String,
    },
    /// A folder that was prepared before.
    Prepared {
        /// Hash of the content of its files.
        fingerprint: String,
    },
}

impl PlannedDataset {
    /// Returns the hash of everything that determines the dataset.
    pub(crate) fn fingerprint(&self) -> Result<String, SweepError> {
        match &self.source {
            DatasetSource::Recipe(pipeline) => Ok(pipeline.fingerprint()?),
            DatasetSource::NotFetched { fingerprint, .. } | DatasetSource::Prepared { fingerprint } => {
                Ok(fingerprint.clone())
            }
        }
    }

    /// Returns the manifest if the dataset is complete.
    pub(crate) fn prepared(&self) -> Result<Option<Manifest>, SweepError> {
        match &self.source {
            DatasetSource::Recipe(pipeline) => Ok(prepared(pipeline, &self.path)?),
            DatasetSource::NotFetched { .. } => Ok(None),
            DatasetSource::Prepared { .. } => Ok(Some(read_manifest(&self.path)?)),
        }
    }

    /// Returns the manifest, and prepares the dataset in `path` first if it is missing.
    pub(crate) fn prepare_in(&self, path: &Path) -> Result<Manifest, SweepError> {
        match &self.source {
            DatasetSource::Recipe(pipeline) => Ok(prepare(pipeline, path)?),
            DatasetSource::NotFetched { missing, .. } => Err(missing.clone().into()),
            DatasetSource::Prepared { .. } => Ok(read_manifest(&self.path)?),
        }
    }

    /// Returns the world that the feedback is generated from, if the recipe is known and generates
    /// it.
    pub(crate) fn world(&self) -> Option<&SyntheticWorld> {
        match &self.source {
            DatasetSource::Recipe(pipeline) => pipeline.world(),
            DatasetSource::NotFetched { .. } | DatasetSource::Prepared { .. } => None,
        }
    }
}

/// SFT stage that runs start from.
#[derive(Debug, Clone)]
pub struct SftStage {
    /// Name of its run directory.
    pub id: String,
    /// Training settings.
    pub settings: Settings,
    /// Random seed: 0, or that of the runs if every seed trains its own stage.
    pub seed: u64,
    /// Index into [`SweepPlan::datasets`].
    pub dataset: usize,
    /// Index into [`SweepPlan::models`].
    pub model: usize,
}

/// A run with every setting resolved.
#[derive(Debug, Clone)]
pub struct ResolvedRun {
    /// Fingerprint of everything the result depends on; the name of the run directory.
    pub id: String,
    /// The swept settings.
    pub settings: BTreeMap<String, Value>,
    /// Random seed.
    pub seed: u64,
    /// Training settings.
    pub train: Settings,
    /// Index into [`SweepPlan::datasets`].
    pub dataset: usize,
    /// Index into [`SweepPlan::models`].
    pub model: usize,
    /// Index into [`SweepPlan::sft`]; None starts from the base model.
    pub sft: Option<usize>,
    /// Trial that the run belongs to, in a search.
    pub trial: Option<TrialId>,
    /// Policy of a run that only evaluates.
    pub untrained: Option<UntrainedPolicy>,
}

/// Policy that is evaluated without training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UntrainedPolicy {
    /// The model that runs start from, which is also the reference.
    Start,
    /// A model by its index in [`SweepPlan::policies`].
    Model(usize),
}

impl SweepPlan {
    /// Returns the runs of all rungs, and those of the winners under fresh seeds.
    ///
    /// Which trials reach a later rung is not known before: the first ones drawn stand for them.
    pub(crate) fn expected_runs(&self) -> Vec<&ResolvedRun> {
        let later = self.later_rungs.iter().zip(1..).flat_map(|(runs, rung)| {
            let trials = self.search.map_or(0, |search| search.trials_in(rung));
            runs.iter().filter(move |run| run.trial.is_some_and(|trial| trial.number <= trials))
        });
        let is_first = |run: &&ResolvedRun| run.trial.is_some_and(|trial| trial.number == 1);
        self.runs.iter().chain(later).chain(self.retrained.iter().filter(is_first)).collect()
    }

    /// Returns the full-length runs of every trial.
    pub(crate) fn full_length_runs(&self) -> &[ResolvedRun] {
        self.later_rungs.last().unwrap_or(&self.runs)
    }

    /// Returns a fingerprint of all runs and stages, and of the version that planned them.
    pub(crate) fn fingerprint(&self) -> Result<String, SweepError> {
        let later = self.later_rungs.iter().flatten().chain(&self.retrained);
        let runs = self.runs.iter().chain(later).map(|run| &run.id);
        let ids: Vec<_> = runs.chain(self.sft.iter().map(|sft| &sft.id)).collect();
        Ok(fingerprint(&(ids, env!("CARGO_PKG_VERSION")))?)
    }
}
