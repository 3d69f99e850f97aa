//! The plan as `experiment.json`.

use prospect_model::Recipe;
use prospect_runs::{DataUse, PlannedRun, Stage};
use prospect_train::Settings;
use serde::Serialize;
use serde_json::Value;

use super::{ResolvedRun, SweepPlan};
use crate::{SweepError, config::EvaluateFile};

/// Resolved settings that runs share, as `experiment.json` records them.
#[derive(Serialize)]
struct SharedSettings<'a> {
    models: &'a [Recipe],
    /// Models that are evaluated without training.
    #[serde(skip_serializing_if = "<[Recipe]>::is_empty")]
    baselines: &'a [Recipe],
    evaluate: &'a EvaluateFile,
    sft: Vec<&'a Settings>,
    /// Settings of the first run.
    train: Option<&'a Settings>,
}

impl SweepPlan {
    /// Returns the contents of `experiment.json`, which the report reads.
    ///
    /// `manifests` are those of the datasets. For a search, `rungs` are the runs of each rung that
    /// has begun, and `winners` those of the winning trials under fresh seeds once the search has
    /// ended.
    pub(crate) fn record(
        &self,
        commands: &[String],
        manifests: &[Value],
        rungs: &[Vec<ResolvedRun>],
        winners: &[ResolvedRun],
    ) -> Result<prospect_runs::Experiment, SweepError> {
        let shared = SharedSettings {
            models: &self.models,
            baselines: &self.policies,
            evaluate: &self.evaluate,
            sft: self.sft.iter().map(|sft| &sft.settings).collect(),
            train: self.runs.first().map(|run| &run.train),
        };
        let [x, series] = self.axes.clone();
        let planned = |run: &ResolvedRun| PlannedRun {
            id: run.id.clone(),
            settings: run.settings.clone(),
            seed: run.seed,
            data: run.dataset,
        };
        let search = self.search.map(|search| prospect_runs::Search {
            trials: search.trials,
            rungs: rungs.iter().map(|runs| runs.iter().map(planned).collect()).collect(),
        });
        let runs = if search.is_some() { winners } else { &self.runs };
        let data = self.datasets.iter().zip(manifests);
        Ok(prospect_runs::Experiment {
            name: self.name.clone(),
            question: self.question.clone(),
            commands: commands.to_vec(),
            x,
            series,
            baseline: self.baseline.clone(),
            primary: self.primary.clone(),
            level: self.level,
            resample: self.resample.clone(),
            reference: self.references.first().cloned(),
            more_references: self.references.iter().skip(1).cloned().collect(),
            trained_starts: self.trained_starts(),
            capabilities: self.tests.loaded().iter().map(|test| test.record.clone()).collect(),
            untrained: self.baselines.clone(),
            stages: self.sft.iter().map(|sft| Stage { name: "sft".to_owned(), id: sft.id.clone() }).collect(),
            data: data
                .map(|(dataset, manifest)| DataUse { path: dataset.path.clone(), manifest: manifest.clone() })
                .collect(),
            runs: runs.iter().map(planned).collect(),
            search,
            base: serde_json::to_value(&shared).map_err(std::io::Error::from)?,
        })
    }
}
