//! Resolution of every combination of an experiment's settings into a run.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use prospect_core::{config::Document, files::fingerprint};
use prospect_data::TokenCounter;
use prospect_model::ModelFile;
use prospect_runs::{Axis, Resample, describe_settings};
use prospect_train::{Length, Settings};
use serde_json::Value;

use super::{PlannedTests, ResolvedRun, SftStage, SweepPlan, UntrainedPolicy, check::check_report};
use crate::{
    SweepError,
    config::{BaselineFile, Choice, LoadedExperiment, RecipeSources, RunDocuments, is_seed_excluded},
    search::{Combination, RUNG, SearchPlan, combinations_with_trials},
};

/// Version of run ids. Raised whenever the same settings would give other results.
const FORMAT_VERSION: u32 = 2;

/// Fingerprints of the plan's contents, by index, to find duplicates.
#[derive(Default)]
struct Fingerprints {
    datasets: Vec<String>,
    /// Model recipes, without the bytes of their weights.
    recipes: Vec<String>,
    /// Models, with the bytes of their weights.
    models: Vec<String>,
    stages: Vec<String>,
    /// Models that are evaluated without training.
    policies: Vec<String>,
    /// Token counters by the path of their model recipe.
    counters: BTreeMap<String, TokenCounter>,
}

/// Finds the folder of an adapter.
fn locate(sources: &RecipeSources<'_>, folder: &str) -> Result<PathBuf, SweepError> {
    (sources.locate)(folder).map_err(|error| SweepError::Setting(format!("`adapter`: {error}")))
}

/// Returns true if two runs of one combination have the same data and stage in spite of their
/// seeds. A recipe that draws by the seed has it in its fingerprint.
fn has_seedless_start(one: &ResolvedRun, other: &ResolvedRun) -> bool {
    one.seed != other.seed && (one.dataset, one.sft) == (other.dataset, other.sft)
}

/// Returns the index of `name`, after adding it with `add` if it is new.
fn index_of(names: &mut Vec<String>, name: String, add: impl FnOnce()) -> usize {
    names.iter().position(|other| *other == name).unwrap_or_else(|| {
        add();
        names.push(name);
        names.len() - 1
    })
}

impl SweepPlan {
    /// Resolves every run of an experiment. Datasets are to be prepared below `data`.
    pub fn new(
        experiment: &LoadedExperiment,
        sources: &RecipeSources<'_>,
        data: &Path,
    ) -> Result<Self, SweepError> {
        let raw = &experiment.raw;
        let (primary, references) = check_report(experiment)?;
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
            baselines: raw.baselines.keys().cloned().collect(),
            primary,
            level: report.level,
            resample: raw.seeds.resample.clone(),
            base_model: raw.base_model,
            references,
            evaluate: raw.evaluate.clone(),
            tests: PlannedTests::new(experiment, sources)?,
            checkpoints: raw.checkpoints,
            stop: raw.stop,
            datasets: Vec::new(),
            models: Vec::new(),
            policies: Vec::new(),
            sft: Vec::new(),
            runs: Vec::new(),
            search: raw.search.as_ref().map(SearchPlan::new),
            later_rungs: Vec::new(),
            retrained: Vec::new(),
        };
        let mut known = Fingerprints::default();
        let mut ids = BTreeSet::new();
        for Combination { trial, choices } in combinations_with_trials(experiment)? {
            if trial.is_some() {
                for seed in raw.seeds.fresh() {
                    let run = plan.resolve_run(experiment, sources, data, &choices, seed, &mut known)?;
                    plan.retrained.push(ResolvedRun { trial, ..run });
                }
            }
            let first = plan.runs.len();
            for &seed in &raw.seeds.values {
                if is_seed_excluded(raw, &choices, seed) {
                    continue;
                }
                let run = match plan.runs.get(first..) {
                    Some([one, other, ..]) if has_seedless_start(one, other) => {
                        plan.with_seed(one, seed, &known)?
                    }
                    _ => plan.resolve_run(experiment, sources, data, &choices, seed, &mut known)?,
                };
                let run = ResolvedRun { trial, ..run };
                if !ids.insert(run.id.clone()) {
                    return Err(SweepError::Experiment {
                        file: experiment.file.clone(),
                        message: format!(
                            "two runs have the same settings ({}): remove a value that changes nothing",
                            describe_settings(&run.settings)
                        ),
                    });
                }
                plan.runs.push(run);
            }
        }
        plan.add_baselines(experiment, sources, data, &mut known)?;
        if let Some(search) = plan.search {
            let full = std::mem::take(&mut plan.runs);
            let rungs = (0..search.rungs).map(|rung| {
                let runs = full.iter().map(|run| plan.in_rung(run, search, rung, &known));
                runs.collect::<Result<Vec<ResolvedRun>, SweepError>>()
            });
            let mut rungs = rungs.collect::<Result<Vec<_>, _>>()?.into_iter();
            plan.runs = rungs.next().unwrap_or_default();
            plan.later_rungs = rungs.collect();
        }
        Ok(plan)
    }

    /// Returns a run with another seed, of a combination whose data and stage do not depend on it.
    /// Resolving ten thousand runs from their documents takes seconds.
    fn with_seed(
        &self,
        run: &ResolvedRun,
        seed: u64,
        known: &Fingerprints,
    ) -> Result<ResolvedRun, SweepError> {
        let mut run = ResolvedRun { seed, ..run.clone() };
        run.id = self.id(&run, known)?;
        Ok(run)
    }

    /// Returns the run shortened to its length in a rung of a search.
    fn in_rung(
        &self,
        run: &ResolvedRun,
        search: SearchPlan,
        rung: usize,
        known: &Fingerprints,
    ) -> Result<ResolvedRun, SweepError> {
        let mut run =
            ResolvedRun { train: run.train.clone().shortened(search.fraction(rung)), ..run.clone() };
        run.id = self.id(&run, known)?;
        if search.rungs > 1 {
            run.settings.insert(RUNG.to_owned(), (rung + 1).into());
        }
        Ok(run)
    }

    fn resolve_run(
        &mut self,
        experiment: &LoadedExperiment,
        sources: &RecipeSources<'_>,
        data: &Path,
        choices: &[Choice],
        seed: u64,
        known: &mut Fingerprints,
    ) -> Result<ResolvedRun, SweepError> {
        let documents = RunDocuments::new(experiment, sources, choices, seed)?;
        let settings = documents.settings()?;
        let dataset = self.dataset(&documents.data, sources, data, known)?;
        documents.check_model()?;
        let model = self.model(&documents.model, sources, known)?;
        let sft = match documents.sft()? {
            None => None,
            Some((settings, recipe)) => {
                let dataset = self.dataset(recipe, sources, data, known)?;
                let seed = experiment.raw.seeds.resamples(Resample::Sft).then_some(seed);
                Some(self.stage(settings, seed, dataset, model, known)?)
            }
        };
        let settings_shown =
            choices.iter().map(|choice| (choice.axis.clone(), choice.value.clone())).collect();
        let id = String::new();
        let mut run = ResolvedRun {
            id,
            settings: settings_shown,
            seed,
            train: settings,
            dataset,
            model,
            sft,
            trial: None,
            untrained: None,
        };
        run.id = self.id(&run, known)?;
        Ok(run)
    }

    /// Plans the evaluation of every baseline for each combination of the axes but that of the
    /// series, with the settings of the first series there.
    fn add_baselines(
        &mut self,
        experiment: &LoadedExperiment,
        sources: &RecipeSources<'_>,
        data: &Path,
        known: &mut Fingerprints,
    ) -> Result<(), SweepError> {
        let raw = &experiment.raw;
        if raw.baselines.is_empty() {
            return Ok(());
        }
        let mut settings_of_others: Vec<Vec<Value>> = Vec::new();
        let mut combinations = Vec::new();
        for Combination { choices, .. } in combinations_with_trials(experiment)? {
            let others = choices.iter().filter(|choice| choice.axis != raw.report.series);
            let others: Vec<Value> = others.map(|choice| choice.value.clone()).collect();
            if !settings_of_others.contains(&others) {
                settings_of_others.push(others);
                combinations.push(choices);
            }
        }
        for (name, file) in &raw.baselines {
            for choices in &combinations {
                for &seed in &raw.seeds.values {
                    let run = self.resolve_run(experiment, sources, data, choices, seed, known)?;
                    let documents = RunDocuments::new(experiment, sources, choices, seed)?;
                    let policy = self
                        .policy(file, &documents.model, run.model, sources, known)
                        .map_err(|error| experiment.located_error(&format!("`baselines.{name}`: {error}")))?;
                    let policy_fingerprint = match policy {
                        UntrainedPolicy::Start => None,
                        UntrainedPolicy::Model(index) => Some(&known.policies[index]),
                    };
                    let mut settings = run.settings.clone();
                    settings.insert(raw.report.series.clone(), name.clone().into());
                    self.runs.push(ResolvedRun {
                        id: fingerprint(&("baseline", &run.id, policy_fingerprint))?,
                        settings,
                        train: Settings { length: Length::Steps(0), ..run.train },
                        untrained: Some(policy),
                        ..run
                    });
                }
            }
        }
        Ok(())
    }

    /// Resolves the policy of a baseline, and checks that it reads and writes the tokens of the runs
    /// of `model`, and that an adapter fits its base model.
    fn policy(
        &mut self,
        file: &BaselineFile,
        document: &Document,
        model: usize,
        sources: &RecipeSources<'_>,
        known: &mut Fingerprints,
    ) -> Result<UntrainedPolicy, SweepError> {
        let recipe = match (&file.model, &file.adapter) {
            (None, None) => return Ok(UntrainedPolicy::Start),
            (Some(path), adapter) => {
                let recipe = (sources.recipe)(path)?.read::<ModelFile>()?.resolve(sources.locate)?;
                match adapter {
                    None => recipe,
                    Some(folder) => recipe.with_adapter(locate(sources, folder)?)?,
                }
            }
            (None, Some(folder)) => {
                let weights = folder.clone();
                let written = ModelFile { weights, architecture: None, ..document.read::<ModelFile>()? };
                written.resolve(sources.locate)?
            }
        };
        let name = recipe.fingerprint()?;
        if let Some(index) = known.policies.iter().position(|other| *other == name) {
            return Ok(UntrainedPolicy::Model(index));
        }
        let start = &self.models[model];
        // A plan of models that are not on this machine is made again before it is executed.
        if start.is_fetched() && recipe.is_fetched() {
            if recipe.text_fingerprint()? != start.text_fingerprint()? {
                return Err(SweepError::Setting(format!(
                    "{} has another tokenizer or chat template than {}, so log-probabilities cannot be compared; \
                     give its recipe the `tokenizer` and `chat_template` of the runs if they fit its weights",
                    recipe.name, start.name
                )));
            }
            recipe.check_weights()?;
        }
        known.policies.push(name);
        self.policies.push(recipe);
        Ok(UntrainedPolicy::Model(self.policies.len() - 1))
    }

    /// Returns the fingerprint of everything that a run's result depends on.
    fn id(&self, run: &ResolvedRun, known: &Fingerprints) -> Result<String, SweepError> {
        let all = (
            FORMAT_VERSION,
            &run.train,
            &known.datasets[run.dataset],
            &known.models[run.model],
            self.models[run.model].train,
            run.sft.map(|sft| self.sft[sft].id.clone()),
            run.seed,
            self.evaluate.without_tests(),
        );
        // Tests count by their questions, not by the paths of their files.
        let tests = self.tests.fingerprint.as_ref();
        // A run that may stop early is a different run.
        Ok(match (self.stop, tests) {
            (None, None) => fingerprint(&all)?,
            (Some(stop), None) => fingerprint(&(all, stop))?,
            (stop, Some(tests)) => fingerprint(&(all, stop, tests))?,
        })
    }

    fn dataset(
        &mut self,
        document: &Document,
        sources: &RecipeSources<'_>,
        data: &Path,
        known: &mut Fingerprints,
    ) -> Result<usize, SweepError> {
        let dataset = sources.dataset(document, data, &mut known.counters)?;
        let name = dataset.fingerprint()?;
        Ok(index_of(&mut known.datasets, name, || self.datasets.push(dataset)))
    }

    fn model(
        &mut self,
        document: &Document,
        sources: &RecipeSources<'_>,
        known: &mut Fingerprints,
    ) -> Result<usize, SweepError> {
        let recipe = document.read::<ModelFile>()?.resolve(sources.locate)?;
        // Hashing weights takes a while, so each recipe is hashed once.
        let recipe_fingerprint = fingerprint(&recipe)?;
        if let Some(index) = known.recipes.iter().position(|other| *other == recipe_fingerprint) {
            return Ok(index);
        }
        known.recipes.push(recipe_fingerprint);
        known.models.push(recipe.fingerprint()?);
        self.models.push(recipe);
        Ok(self.models.len() - 1)
    }

    fn stage(
        &mut self,
        settings: Settings,
        seed: Option<u64>,
        dataset: usize,
        model: usize,
        known: &mut Fingerprints,
    ) -> Result<usize, SweepError> {
        let data = self.datasets[dataset].fingerprint()?;
        let all = (FORMAT_VERSION, "sft", &settings, data, &known.models[model], self.models[model].train);
        let id = match seed {
            None => fingerprint(&all)?,
            Some(seed) => fingerprint(&(all, seed))?,
        };
        let seed = seed.unwrap_or(0);
        Ok(index_of(&mut known.stages, id.clone(), || {
            self.sft.push(SftStage { id, settings, seed, dataset, model });
        }))
    }
}
