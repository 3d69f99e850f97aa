//! From an experiment to the runs it takes.

use std::{collections::BTreeMap, path::PathBuf};

use prospect_core::{config::Document, files::fingerprint};
use prospect_data::{Pipeline, TokenCounter};
use prospect_model::{ModelFile, Recipe};
use prospect_runs::{Axis, DataUse, PlannedRun, Reference, Stage, SweepDir};
use prospect_train::Settings;
use serde_json::{Value, json};

use crate::{
    Condition, Experiment, Only, SweepError,
    documents::{Choice, Documents},
    experiment::{CheckpointsFile, EvaluateFile, Sources, StopFile},
    reference,
    search::{RUNG, Search, Trial, trials},
};

/// Raised whenever the same settings would give other results.
const FORMAT_VERSION: u32 = 2;

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
    pub reference: Option<Reference>,
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

/// Checks an experiment with every combination of its settings, without looking for inputs or weights, and says how
/// many runs it plans.
pub fn check(experiment: &Experiment, sources: &Sources<'_>) -> Result<usize, SweepError> {
    let raw = &experiment.raw;
    check_report(experiment)?;
    let trials = trials(experiment)?;
    for (_, choices) in &trials {
        Documents::new(experiment, sources, choices, 0)?.check()?;
    }
    let all = match raw.search.as_ref().map(Search::of) {
        None => trials.len(),
        Some(search) => {
            let cells = trials.len() / search.trials;
            (0..search.rungs).map(|rung| cells * search.trials_in(rung)).sum()
        }
    };
    Ok(all * raw.seeds.len())
}

impl Plan {
    /// Resolves every run of an experiment; datasets go below `data`.
    pub fn new(
        experiment: &Experiment,
        sources: &Sources<'_>,
        data: &std::path::Path,
    ) -> Result<Self, SweepError> {
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

    fn resolve_run(
        &mut self,
        experiment: &Experiment,
        sources: &Sources<'_>,
        data: &std::path::Path,
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

    /// Names all runs and stages, and the version that plans them.
    pub(crate) fn fingerprint(&self) -> Result<String, SweepError> {
        let runs = self.runs.iter().chain(self.later.iter().flatten()).map(|run| &run.id);
        let ids: Vec<_> = runs.chain(self.sft.iter().map(|sft| &sft.id)).collect();
        Ok(fingerprint(&(ids, env!("CARGO_PKG_VERSION")))?)
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
        data: &std::path::Path,
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

    /// The plan as the report needs it, with manifests of its datasets. Of a search, there are the runs of each rung that it
    /// has come to, and once it is over, those of the trials that have won.
    pub(crate) fn record(
        &self,
        commands: &[String],
        manifests: &[Value],
        rungs: &[Vec<Run>],
        won: &[Run],
    ) -> Result<prospect_runs::Experiment, SweepError> {
        let json = |value: serde_json::Result<Value>| value.map_err(std::io::Error::from);
        let base = json!({
            "models": json(serde_json::to_value(&self.models))?,
            "evaluate": json(serde_json::to_value(self.evaluate))?,
            "sft": json(serde_json::to_value(self.sft.iter().map(|sft| &sft.settings).collect::<Vec<_>>()))?,
            "train": json(serde_json::to_value(self.runs.first().map(|run| &run.train)))?,
        });
        let [x, series] = self.axes.clone();
        let planned = |run: &Run| PlannedRun {
            id: run.id.clone(),
            settings: run.settings.clone(),
            seed: run.seed,
            data: run.dataset,
        };
        let search = self.search.map(|search| prospect_runs::Search {
            trials: search.trials,
            rungs: rungs.iter().map(|runs| runs.iter().map(planned).collect()).collect(),
        });
        let runs = if search.is_some() { won } else { &self.runs };
        let data = self.datasets.iter().zip(manifests);
        Ok(prospect_runs::Experiment {
            name: self.name.clone(),
            question: self.question.clone(),
            commands: commands.to_vec(),
            x,
            series,
            baseline: self.baseline.clone(),
            reference: self.reference.clone(),
            stages: self.sft.iter().map(|sft| Stage { name: "sft".to_owned(), id: sft.id.clone() }).collect(),
            data: data
                .map(|(dataset, manifest)| DataUse { path: dataset.path.clone(), manifest: manifest.clone() })
                .collect(),
            runs: runs.iter().map(planned).collect(),
            search,
            base,
        })
    }

    /// The plan as text: every run of `only`, and what of it is there.
    pub fn describe(&self, sweep: &SweepDir, only: &Only) -> String {
        let mut lines = vec![
            self.question.clone(),
            format!(
                "{} runs over {} datasets and {} models; shared stages: {}",
                self.foreseen().len(),
                self.datasets.len(),
                self.models.len(),
                if self.sft.is_empty() { "none".to_owned() } else { format!("{} SFT", self.sft.len()) },
            ),
        ];
        let held = sweep.claims().held().unwrap_or_default();
        let state =
            |id: &str| Condition::of(sweep.run(id).status().ok().flatten().as_ref(), held.contains_key(id));
        for sft in &self.sft {
            lines.push(format!("  {}  sft, shared  {}", sft.id, state(&sft.id)));
        }
        for run in self.runs.iter().filter(|run| only.takes(run)) {
            let settings = describe(&run.settings);
            lines.push(format!("  {}  {settings}, seed {}  {}", run.id, run.seed, state(&run.id)));
        }
        for (later, rung) in self.later.iter().zip(2..) {
            let trials = self.search.map_or(0, |search| search.trials_in(rung - 1));
            let cells = later.iter().filter_map(|run| run.trial).map(|trial| trial.cell);
            let cells = cells.collect::<std::collections::BTreeSet<_>>().len();
            let runs =
                self.foreseen().iter().filter(|run| run.settings.get(RUNG) == Some(&rung.into())).count();
            lines.push(format!(
                "  then rung {rung}: {runs} runs, of the best {trials} in each of {cells} series and places"
            ));
        }
        lines.join("\n")
    }
}

/// Settings as `key = value, …`.
pub(crate) fn describe(settings: &BTreeMap<String, Value>) -> String {
    let value = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    settings.iter().map(|(key, v)| format!("{key} = {}", value(v))).collect::<Vec<_>>().join(", ")
}

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

fn check_report(experiment: &Experiment) -> Result<Option<Reference>, SweepError> {
    axes_and_baseline(&experiment.raw).map_err(|message| experiment.complaint(&message))
}

fn axes_and_baseline(raw: &crate::ExperimentFile) -> Result<Option<Reference>, String> {
    if raw.seeds.is_empty() {
        return Err("`seeds` is empty: give at least one".to_owned());
    }
    if let Some((axis, _)) = raw.linked.iter().find(|(_, groups)| groups.names().next().is_none()) {
        return Err(format!("`linked.{axis}` is empty: give at least one group"));
    }
    if let Some((key, _)) = raw.matrix.iter().find(|(_, values)| values.is_empty()) {
        return Err(format!("`matrix.{key}` is empty: give at least one value"));
    }
    raw.stop.map_or(Ok(()), |stop| stop.check(raw.evaluate))?;
    let axes: Vec<&String> = raw.linked.keys().chain(raw.matrix.keys()).collect();
    for (name, axis) in [("x", &raw.report.x), ("series", &raw.report.series)] {
        if !axes.contains(&axis) {
            return Err(format!(
                "`report.{name}` is `{axis}`, which is no swept setting; there are: {axes:?}"
            ));
        }
    }
    let series: Vec<String> = match raw.linked.get(&raw.report.series) {
        Some(groups) => groups.names().cloned().collect(),
        None => raw.matrix[&raw.report.series].iter().map(prospect_runs::series_name).collect(),
    };
    if !series.contains(&raw.report.baseline) {
        return Err(format!(
            "`report.baseline` is `{}`, which is no series; there are: {series:?}",
            raw.report.baseline
        ));
    }
    reference::resolve(raw, &series)
}
