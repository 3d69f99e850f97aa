//! Does what is missing of a plan.

use std::path::Path;

use prospect_core::progress::{Progress, say};
use prospect_data::{Manifest, prepare, prepared};
use prospect_eval::HeldOut;
use prospect_model::{
    Model, Quantization, Recipe, TemplateSource, TokenizerSource, Train, WeightsSource, save_adapter,
};
use prospect_runs::{RunDir, State, Status, SweepDir};
use prospect_train::{
    Checkpoints, Encoder, Examples, Job, ReferenceCache, Settings, Trained, TrainingSet, train,
};
use serde_json::json;

use crate::{
    CheckpointsFile, Plan, Run, SweepError,
    observe::RunObserver,
    plan::{Dataset, Sft, describe},
};

/// What a call of [`execute`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Executed {
    /// Runs finished by this call.
    pub finished: usize,
    /// Runs that were there already.
    pub already: usize,
    /// Runs that ended with an error; their `status.json` says which.
    pub failed: usize,
}

/// Does what is missing of `plan` in `sweep`. `commands` reproduce it. A run that fails does not stop the others.
pub fn execute(plan: &Plan, sweep: &SweepDir, commands: Vec<String>) -> Result<Executed, SweepError> {
    let _lock = sweep.lock()?;
    let manifests = plan.datasets.iter().map(make).collect::<Result<Vec<_>, _>>()?;
    let recorded: Result<Vec<_>, _> = manifests.iter().map(serde_json::to_value).collect();
    sweep.write_experiment(&plan.record(commands, recorded.map_err(std::io::Error::from)?)?)?;

    let todo: Vec<&Run> = plan.runs.iter().filter(|run| !sweep.run(&run.id).is_finished()).collect();
    let steps = |settings: &Settings, dataset: usize| {
        let counts = manifests[dataset].train;
        settings.steps(match settings.objective.examples() {
            Examples::Unpaired | Examples::All => counts.n_desirable + counts.n_undesirable,
            Examples::Paired => 2 * counts.pairs,
            Examples::Desirable => counts.n_desirable,
        } as usize)
    };
    let stages: Vec<&Sft> = plan
        .sft
        .iter()
        .enumerate()
        .filter(|(index, sft)| {
            !sweep.run(&sft.id).is_finished() && todo.iter().any(|run| run.sft == Some(*index))
        })
        .map(|(_, sft)| sft)
        .collect();
    let of_stages = stages.iter().map(|sft| steps(&sft.settings, sft.dataset));
    let total = of_stages.chain(todo.iter().map(|run| steps(&run.train, run.dataset))).sum();
    let progress = Progress::new(&plan.name, "steps", total);

    let mut cache = ReferenceCache::open(&sweep.path().join("reference.bin"))?;
    for sft in stages {
        let model = plan.models[sft.model].load()?;
        let stage = Training {
            plan,
            model: &model,
            recipe: &plan.models[sft.model],
            settings: &sft.settings,
            dataset: &plan.datasets[sft.dataset].path,
            seed: 0,
        };
        let trained = stage.run(&sweep.run(&sft.id), None, &progress, "sft", &mut cache)?;
        let folder = sweep.run(&sft.id).path().join("model");
        Model { decoder: trained.policy, ..model }.save(&folder)?;
        finish(&sweep.run(&sft.id))?;
    }

    let mut executed = Executed { already: plan.runs.len() - todo.len(), ..Executed::default() };
    let mut loaded: Option<((usize, Option<usize>), Model)> = None;
    for run in todo {
        let key = (run.model, run.sft);
        let model = match loaded.take() {
            Some((other, model)) if other == key => model,
            _ => start(plan, run, sweep)?.load()?,
        };
        let result = one_run(plan, run, &model, sweep, &progress, &mut cache);
        loaded = Some((key, model));
        cache.save()?;
        match result {
            Ok(()) => executed.finished += 1,
            Err(error) => {
                executed.failed += 1;
                let directory = sweep.run(&run.id);
                say(format!("failed: {}, seed {}: {error}", describe(&run.settings), run.seed));
                directory.set_status(&Status {
                    state: State::Failed,
                    seconds: 0.0,
                    tokens: 0,
                    error: Some(error.to_string()),
                })?;
            }
        }
    }
    Ok(executed)
}

fn make(dataset: &Dataset) -> Result<Manifest, SweepError> {
    match prepared(&dataset.pipeline, &dataset.path)? {
        Some(manifest) => Ok(manifest),
        None => Ok(prepare(&dataset.pipeline, &dataset.path)?),
    }
}

/// The model that a run starts from: the base, or what the SFT stage made of it.
fn start(plan: &Plan, run: &Run, sweep: &SweepDir) -> Result<Recipe, SweepError> {
    let base = plan.models[run.model].clone();
    let Some(sft) = run.sft else { return Ok(base) };
    let folder = sweep.run(&plan.sft[sft].id).path().join("model");
    Ok(Recipe {
        name: std::path::absolute(&folder)?.display().to_string(),
        weights: WeightsSource::Folder(folder),
        tokenizer: TokenizerSource::Weights,
        chat_template: TemplateSource::Weights,
        quantization: base.quantization.map(Quantization::trained),
        ..base
    })
}

fn one_run(
    plan: &Plan,
    run: &Run,
    model: &Model,
    sweep: &SweepDir,
    progress: &Progress,
    cache: &mut ReferenceCache,
) -> Result<(), SweepError> {
    let recipe = &plan.models[run.model];
    let dataset = &plan.datasets[run.dataset].path;
    let encoder = Encoder::new(model, run.train.max_length, run.train.max_prompt_length);
    let held_out = HeldOut::read(dataset, plan.evaluate.pairs, &run.train.objective, &encoder)?;
    let training = Training { plan, model, recipe, settings: &run.train, dataset, seed: run.seed };
    let directory = sweep.run(&run.id);
    let label = format!("{}, seed {}", describe(&run.settings), run.seed);
    let trained = training.run(&directory, Some(&held_out), progress, &label, cache)?;
    match recipe.train {
        Train::Lora(lora) => {
            save_adapter(&trained.policy, lora, &model.name, &directory.path().join("adapter"))?;
        }
        Train::Full => {
            Model { decoder: trained.policy, ..model.clone() }.save(&directory.path().join("model"))?;
        }
    }
    finish(&directory)
}

/// One training stage.
struct Training<'a> {
    plan: &'a Plan,
    model: &'a Model,
    recipe: &'a Recipe,
    settings: &'a Settings,
    dataset: &'a Path,
    seed: u64,
}

impl Training<'_> {
    fn run(
        &self,
        directory: &RunDir,
        held_out: Option<&HeldOut>,
        progress: &Progress,
        label: &str,
        cache: &mut ReferenceCache,
    ) -> Result<Trained, SweepError> {
        let encoder = Encoder::new(self.model, self.settings.max_length, self.settings.max_prompt_length);
        let examples = TrainingSet::read(self.dataset, &self.settings.objective, &encoder)?;
        let config = json!({
            "settings": self.settings,
            "model": self.recipe,
            "model_fingerprint": self.model.fingerprint,
            "dataset": self.dataset,
            "seed": self.seed,
            "examples": examples.len(),
            "class_counts": examples.class_counts(),
            "class_weights": self.settings.objective.class_weights(examples.class_counts()),
            "encoding": encoder.counts(),
            "held_out_pairs": held_out.map(HeldOut::pairs),
        });
        let CheckpointsFile { every, keep } = self.plan.checkpoints;
        let checkpoints = Checkpoints::new(directory.checkpoints(), every, keep, directory.id());
        match checkpoints.latest()? {
            Some(step) => {
                directory.go_on(step)?;
                progress.advance(step, label);
            }
            None => directory.begin(&config)?,
        }
        let mut observer = RunObserver {
            metrics: directory.metrics_writer()?,
            held_out,
            every: self.plan.evaluate.every,
            progress,
            label: label.to_owned(),
            outcomes: Vec::new(),
        };
        let job = Job {
            start: self.model,
            train: self.recipe.train,
            activations: self.recipe.activations,
            settings: self.settings,
            examples: &examples,
            encoder: &encoder,
            seed: self.seed,
            checkpoints: Some(&checkpoints),
        };
        let trained = train(&job, cache, &mut observer)?;
        directory.write_pairs(&observer.outcomes)?;
        directory.set_status(&Status {
            state: State::Running,
            seconds: trained.seconds,
            tokens: trained.tokens,
            error: None,
        })?;
        Ok(trained)
    }
}

/// All files are there: says so.
fn finish(directory: &RunDir) -> Result<(), SweepError> {
    if let Some(status) = directory.status()? {
        directory.set_status(&Status { state: State::Finished, ..status })?;
    }
    if directory.checkpoints().exists() {
        fs_err::remove_dir_all(directory.checkpoints())?;
    }
    Ok(())
}
