//! The plan of a sweep: every run with resolved settings.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use prospect_core::files::fingerprint;
use prospect_data::{Manifest, Pipeline, SyntheticWorld, prepare, prepared, read_manifest};
use prospect_model::Recipe;
use prospect_runs::{Axis, PublishedResults};
use prospect_train::Settings;
use serde_json::Value;

use crate::{
    SweepError,
    config::{CheckpointsFile, EvaluateFile, StopFile},
    search::{SearchPlan, TrialId},
};

mod check;
mod describe;
mod record;
mod reference;
mod resolve;
mod run_filter;

pub use check::check;
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
    /// Published numbers.
    pub reference: Option<PublishedResults>,
    /// Evaluation on held-out data.
    pub evaluate: EvaluateFile,
    /// Checkpoints of the runs.
    pub checkpoints: CheckpointsFile,
    /// Early stopping.
    pub stop: Option<StopFile>,
    /// Datasets, without duplicates.
    pub datasets: Vec<PlannedDataset>,
    /// Models, without duplicates.
    pub models: Vec<Recipe>,
    /// Shared SFT stages.
    pub sft: Vec<SftStage>,
    /// Runs; with a search, those of the first rung.
    pub runs: Vec<ResolvedRun>,
    /// Search, if there is one.
    pub search: Option<SearchPlan>,
    /// Runs of each later rung, of every trial that may reach it.
    pub(crate) later_rungs: Vec<Vec<ResolvedRun>>,
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
            DatasetSource::Prepared { fingerprint } => Ok(fingerprint.clone()),
        }
    }

    /// Returns the manifest if the dataset is complete.
    pub(crate) fn prepared(&self) -> Result<Option<Manifest>, SweepError> {
        match &self.source {
            DatasetSource::Recipe(pipeline) => Ok(prepared(pipeline, &self.path)?),
            DatasetSource::Prepared { .. } => Ok(Some(read_manifest(&self.path)?)),
        }
    }

    /// Returns the manifest, and prepares the dataset in `path` first if it is missing.
    pub(crate) fn prepare_in(&self, path: &Path) -> Result<Manifest, SweepError> {
        match &self.source {
            DatasetSource::Recipe(pipeline) => Ok(prepare(pipeline, path)?),
            DatasetSource::Prepared { .. } => Ok(read_manifest(&self.path)?),
        }
    }

    /// Returns the world that the feedback is generated from, if the recipe is known and generates
    /// it.
    pub(crate) fn world(&self) -> Option<&SyntheticWorld> {
        match &self.source {
            DatasetSource::Recipe(pipeline) => pipeline.world(),
            DatasetSource::Prepared { .. } => None,
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
}

impl SweepPlan {
    /// Returns the runs of all rungs.
    ///
    /// Which trials reach a later rung is not known before: the first ones drawn stand for them.
    pub(crate) fn expected_runs(&self) -> Vec<&ResolvedRun> {
        let later = self.later_rungs.iter().zip(1..).flat_map(|(runs, rung)| {
            let trials = self.search.map_or(0, |search| search.trials_in(rung));
            runs.iter().filter(move |run| run.trial.is_some_and(|trial| trial.number <= trials))
        });
        self.runs.iter().chain(later).collect()
    }

    /// Returns the full-length runs of every trial.
    pub(crate) fn full_length_runs(&self) -> &[ResolvedRun] {
        self.later_rungs.last().unwrap_or(&self.runs)
    }

    /// Returns a fingerprint of all runs and stages, and of the version that planned them.
    pub(crate) fn fingerprint(&self) -> Result<String, SweepError> {
        let runs = self.runs.iter().chain(self.later_rungs.iter().flatten()).map(|run| &run.id);
        let ids: Vec<_> = runs.chain(self.sft.iter().map(|sft| &sft.id)).collect();
        Ok(fingerprint(&(ids, env!("CARGO_PKG_VERSION")))?)
    }
}
