//! From an experiment to the runs it takes.

use std::{collections::BTreeMap, path::PathBuf};

use prospect_core::files::fingerprint;
use prospect_data::Pipeline;
use prospect_model::Recipe;
use prospect_runs::{Axis, PublishedResults};
use prospect_train::Settings;
use serde_json::Value;

use crate::{
    SweepError,
    experiment::{CheckpointsFile, EvaluateFile, StopFile},
    search::{Search, Trial},
};

mod check;
mod resolve;
mod told;

pub use check::check;
pub(crate) use prospect_runs::describe_settings as describe;

/// A dataset that runs need.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// How it is made.
    pub pipeline: Pipeline,
    /// Where it goes.
    pub path: PathBuf,
}

/// A shared SFT stage.
#[derive(Debug, Clone)]
pub struct Sft {
    /// Its run directory's name.
    pub id: String,
    /// How to train.
    pub settings: Settings,
    /// Index into [`Plan::datasets`].
    pub dataset: usize,
    /// Index into [`Plan::models`].
    pub model: usize,
}

/// One run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Fingerprint of all that the result depends on.
    pub id: String,
    /// The swept settings.
    pub settings: BTreeMap<String, Value>,
    /// Its seed.
    pub seed: u64,
    /// How to train.
    pub train: Settings,
    /// Index into [`Plan::datasets`].
    pub dataset: usize,
    /// Index into [`Plan::models`].
    pub model: usize,
    /// Index into [`Plan::sft`], if a stage comes first.
    pub sft: Option<usize>,
    /// The trial that it belongs to, if settings are searched for.
    pub trial: Option<Trial>,
}

/// What an experiment takes.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The experiment's name.
    pub name: String,
    /// Its question.
    pub question: String,
    /// What to plot.
    pub axes: [Axis; 2],
    /// The series to compare with.
    pub baseline: String,
    /// Published numbers.
    pub reference: Option<PublishedResults>,
    /// When and on what to evaluate.
    pub evaluate: EvaluateFile,
    /// How often runs keep their state.
    pub checkpoints: CheckpointsFile,
    /// When to end runs before their time.
    pub stop: Option<StopFile>,
    /// Datasets.
    pub datasets: Vec<Dataset>,
    /// Models.
    pub models: Vec<Recipe>,
    /// Shared stages.
    pub sft: Vec<Sft>,
    /// Runs; of a search, those of the first rung.
    pub runs: Vec<Run>,
    /// How a search goes on from there.
    pub search: Option<Search>,
    /// Runs of the later rungs, for each trial that may come so far.
    pub(crate) later: Vec<Vec<Run>>,
}

impl Plan {
    /// Runs of all rungs; of the later ones, as many as there will be, by whichever trials were drawn first.
    pub(crate) fn foreseen(&self) -> Vec<&Run> {
        let later = self.later.iter().zip(1..).flat_map(|(runs, rung)| {
            let most = self.search.map_or(0, |search| search.trials_in(rung));
            runs.iter().filter(move |run| run.trial.is_some_and(|trial| trial.number <= most))
        });
        self.runs.iter().chain(later).collect()
    }

    /// Runs as they are in full, of every trial.
    pub(crate) fn whole(&self) -> &[Run] {
        self.later.last().unwrap_or(&self.runs)
    }

    /// Names all runs and stages, and the version that plans them.
    pub(crate) fn fingerprint(&self) -> Result<String, SweepError> {
        let runs = self.runs.iter().chain(self.later.iter().flatten()).map(|run| &run.id);
        let ids: Vec<_> = runs.chain(self.sft.iter().map(|sft| &sft.id)).collect();
        Ok(fingerprint(&(ids, env!("CARGO_PKG_VERSION")))?)
    }
}
