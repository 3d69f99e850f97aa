//! Every combination of an experiment's settings as a run.

use std::{collections::BTreeMap, path::Path};

use prospect_core::{config::Document, files::fingerprint};
use prospect_data::TokenCounter;
use prospect_model::ModelFile;
use prospect_runs::Axis;
use prospect_train::Settings;

use super::{Dataset, Plan, Run, Sft, check::check_report, describe};
use crate::{
    Experiment, SweepError,
    documents::{Choice, Documents},
    experiment::Sources,
    search::{RUNG, Search, trials},
};

/// Raised whenever the same settings would give other results.
const FORMAT_VERSION: u32 = 2;

/// Names of what the plan already holds.
#[derive(Default)]
struct Known {
    datasets: Vec<String>,
    recipes: Vec<String>,
    models: Vec<String>,
    stages: Vec<String>,
    /// By the path of their model recipe.
    counters: BTreeMap<String, TokenCounter>,
}

/// The index of `name`, adding it if it is new.
fn position(names: &mut Vec<String>, name: String, add: impl FnOnce()) -> usize {
    names.iter().position(|other| *other == name).unwrap_or_else(|| {
        add();
        names.push(name);
        names.len() - 1
    })
}

impl Plan {
    /// Resolves every run of an experiment; datasets go below `data`.
    pub fn new(experiment: &Experiment, sources: &Sources<'_>, data: &Path) -> Result<Self, SweepError> {
        let raw = &experiment.raw;
        let fail = |message: String| SweepError::Experiment { file: experiment.file.clone(), message };
        let reference = check_report(experiment)?;
        let report = &raw.report;
        let mut plan = Self {
            name: experiment.name.clone(),
            question: raw.question.clone(),
            axes: [
                Axis {
                    key: report.x.clone(),
                    label: report.x_label.clone().unwrap_or_else(|| report.x.clone()),
                },
                Axis { key: report.series.clone(), label: report.series.clone() },
            ],
            baseline: report.baseline.clone(),
            reference,
            evaluate: raw.evaluate,
            checkpoints: raw.checkpoints,
            stop: raw.stop,
            datasets: Vec::new(),
            models: Vec::new(),
            sft: Vec::new(),
            runs: Vec::new(),
            search: raw.search.as_ref().map(Search::of),
            later: Vec::new(),
        };
        let mut known = Known::default();
        for (trial, choices) in trials(experiment)? {
            for &seed in &raw.seeds {
                let run = plan.resolve_run(experiment, sources, data, &choices, seed, &mut known)?;
                let run = Run { trial, ..run };
                if plan.runs.iter().any(|other| other.id == run.id) {
                    return Err(fail(format!(
                        "two runs have the same settings ({}): remove a value that changes nothing",
                        describe(&run.settings)
                    )));
                }
                plan.runs.push(run);
            }
        }
        if let Some(search) = plan.search {
            let whole = std::mem::take(&mut plan.runs);
            let rungs = (0..search.rungs).map(|rung| {
                let runs = whole.iter().map(|run| plan.in_rung(run, search, rung, &known));
                runs.collect::<Result<Vec<Run>, SweepError>>()
            });
            let mut rungs = rungs.collect::<Result<Vec<_>, _>>()?.into_iter();
            plan.runs = rungs.next().unwrap_or_default();
            plan.later = rungs.collect();
        }
        Ok(plan)
    }

    /// A run as long as it is in a rung of a search.
    fn in_rung(&self, run: &Run, search: Search, rung: usize, known: &Known) -> Result<Run, SweepError> {
        let mut run = Run { train: run.train.clone().shortened(search.share(rung)), ..run.clone() };
        run.id = self.id(&run, known)?;
        if search.rungs > 1 {
            run.settings.insert(RUNG.to_owned(), (rung + 1).into());
        }
        Ok(run)
    }

    fn resolve_run(
        &mut self,
        experiment: &Experiment,
        sources: &Sources<'_>,
        data: &Path,
        choices: &[Choice],
        seed: u64,
        known: &mut Known,
    ) -> Result<Run, SweepError> {
        let documents = Documents::new(experiment, sources, choices, seed)?;
        let settings = documents.settings()?;
        let dataset = self.dataset(&documents.data, sources, data, known)?;
        let model = self.model(&documents.model, sources, known)?;
        let sft = match documents.sft()? {
            None => None,
            Some((settings, recipe)) => {
                let dataset = self.dataset(recipe, sources, data, known)?;
                Some(self.stage(settings, dataset, model, known)?)
            }
        };
        let settings_shown = choices.iter().map(|(axis, value, _)| (axis.clone(), value.clone())).collect();
        let id = String::new();
        let mut run =
            Run { id, settings: settings_shown, seed, train: settings, dataset, model, sft, trial: None };
        run.id = self.id(&run, known)?;
        Ok(run)
    }

    /// The fingerprint of all that a run's result depends on.
    fn id(&self, run: &Run, known: &Known) -> Result<String, SweepError> {
        let all = (
            FORMAT_VERSION,
            &run.train,
            self.datasets[run.dataset].pipeline.fingerprint()?,
            &known.models[run.model],
            self.models[run.model].train,
            run.sft.map(|sft| self.sft[sft].id.clone()),
            run.seed,
            &self.evaluate,
        );
        // Runs that may end early are other runs than those that may not.
        Ok(match self.stop {
            None => fingerprint(&all)?,
            Some(stop) => fingerprint(&(all, stop))?,
        })
    }

    fn dataset(
        &mut self,
        document: &Document,
        sources: &Sources<'_>,
        data: &Path,
        known: &mut Known,
    ) -> Result<usize, SweepError> {
        let pipeline = sources.pipeline(document, &mut known.counters)?;
        let name = pipeline.fingerprint()?;
        Ok(position(&mut known.datasets, name.clone(), || {
            self.datasets.push(Dataset { pipeline, path: data.join(&name) });
        }))
    }

    fn model(
        &mut self,
        document: &Document,
        sources: &Sources<'_>,
        known: &mut Known,
    ) -> Result<usize, SweepError> {
        let recipe = document.read::<ModelFile>()?.resolve(sources.locate)?;
        // Hashing weights takes a while: the same recipe is hashed once.
        let typed = fingerprint(&recipe)?;
        if let Some(index) = known.recipes.iter().position(|other| *other == typed) {
            return Ok(index);
        }
        known.recipes.push(typed);
        known.models.push(recipe.fingerprint()?);
        self.models.push(recipe);
        Ok(self.models.len() - 1)
    }

    fn stage(
        &mut self,
        settings: Settings,
        dataset: usize,
        model: usize,
        known: &mut Known,
    ) -> Result<usize, SweepError> {
        let data = self.datasets[dataset].pipeline.fingerprint()?;
        let id = fingerprint(&(
            FORMAT_VERSION,
            "sft",
            &settings,
            data,
            &known.models[model],
            self.models[model].train,
        ))?;
        Ok(position(&mut known.stages, id.clone(), || self.sft.push(Sft { id, settings, dataset, model })))
    }
}
