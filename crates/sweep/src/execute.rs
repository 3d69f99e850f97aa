//! Does what is missing of a plan.

use std::{
    num::NonZeroUsize,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use prospect_core::progress::{Progress, say};
use prospect_data::{Manifest, Message, prepare, prepared};
use prospect_eval::{CorruptedPairs, Generations, HeldOut, Utility};
use prospect_model::{
    Model, Quantization, Recipe, TemplateSource, TokenizerSource, Train, WeightsSource, save_adapter,
};
use prospect_runs::{RunDir, State, Status, SweepDir};
use prospect_train::{Encoder, ReferenceCache, Settings};

use crate::{
    Only, Plan, Run, SweepError,
    budget::completions,
    observe::Judges,
    plan::{Dataset, Sft, describe},
};

mod side_by_side;
mod todo;
mod training;

use side_by_side::side_by_side;
pub(crate) use todo::Todo;
use training::Training;

/// What a call of [`execute`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Executed {
    /// Runs there are; of a search, in the rungs that it has come to.
    pub runs: usize,
    /// Runs finished by this call.
    pub finished: usize,
    /// Runs that were ended before their last step, as the experiment asks for, by this call.
    pub stopped: usize,
    /// Runs that were finished or stopped already.
    pub already: usize,
    /// Runs that ended with an error in this call; their `status.json` and `error.log` say which.
    pub failed: usize,
    /// Runs that had failed before and were not tried again.
    pub failed_earlier: usize,
    /// Runs that were not begun, because they were not asked for or time was up.
    pub left: usize,
}

impl Executed {
    fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.finished += other.finished;
        self.stopped += other.stopped;
        self.already += other.already;
        self.failed += other.failed;
        self.failed_earlier += other.failed_earlier;
        self.left += other.left;
    }
}

/// How to go about a plan. Nothing of it has any influence on the results of a run.
#[derive(Debug, Clone)]
pub struct Execution {
    /// Runs that train side by side, over one copy of the weights that they start from.
    pub jobs: NonZeroUsize,
    /// The runs to do.
    pub only: Only,
    /// When to begin no more runs.
    pub until: Option<Instant>,
    /// Whether runs that failed in an earlier call are tried again.
    pub retry_failed: bool,
}

impl Default for Execution {
    fn default() -> Self {
        Self { jobs: NonZeroUsize::MIN, only: Only::default(), until: None, retry_failed: false }
    }
}

/// How a run ended.
enum End {
    Finished,
    Stopped,
    Failed,
    /// It was not begun.
    Left,
}

/// Does what is missing of `plan` in `sweep`. `commands` reproduce it. A run that fails does not stop the others.
pub fn execute(
    plan: &Plan,
    sweep: &SweepDir,
    how: &Execution,
    commands: &[String],
) -> Result<Executed, SweepError> {
    let _lock = sweep.lock()?;
    let manifests = plan.datasets.iter().map(make).collect::<Result<Vec<_>, _>>()?;
    let recorded: Result<Vec<_>, _> = manifests.iter().map(serde_json::to_value).collect();
    let recorded = recorded.map_err(std::io::Error::from)?;
    let record = |rungs: &[Vec<Run>], won: &[Run]| -> Result<(), SweepError> {
        Ok(sweep.write_experiment(&plan.record(commands, &recorded, rungs, won)?)?)
    };
    let mut executed = Executed::default();
    let mut rungs = vec![plan.runs.clone()];
    for rung in 0.. {
        record(&rungs, &[])?;
        let runs = &rungs[rung];
        executed.add(work_off(&Plan { runs: runs.clone(), ..plan.clone() }, sweep, how, &manifests)?);
        let Some(search) = plan.search else { break };
        let winners = search.winners(sweep, runs, rung)?;
        let of_winners = |runs: &[Run]| -> Vec<Run> {
            let won = |run: &&Run| run.trial.is_some_and(|trial| winners.contains(&trial));
            runs.iter().filter(won).cloned().collect()
        };
        match plan.later.get(rung) {
            None => {
                record(&rungs, &of_winners(runs))?;
                break;
            }
            Some(_) if winners.is_empty() => break,
            Some(next) => {
                let next = of_winners(next);
                rungs.push(next);
            }
        }
    }
    Ok(executed)
}

/// Does what is missing of the runs of `plan`.
fn work_off(
    plan: &Plan,
    sweep: &SweepDir,
    how: &Execution,
    manifests: &[Manifest],
) -> Result<Executed, SweepError> {
    let todo = Todo::new(plan, &plan.runs.iter().collect::<Vec<_>>(), sweep, how);
    let steps = |settings: &Settings, dataset: usize| {
        settings.steps(completions(manifests[dataset].train, &settings.objective))
    };
    let of_stages = todo.stages.iter().map(|sft| steps(&sft.settings, sft.dataset));
    let total = of_stages.chain(todo.runs.iter().map(|run| steps(&run.train, run.dataset))).sum();
    let work = Work {
        plan,
        sweep,
        jobs: how.jobs.get(),
        progress: &Progress::new(&plan.name, "steps", total),
        // Beside the sweeps of a folder, for all of them.
        cache: &ReferenceCache::at(&sweep.path().parent().unwrap_or(Path::new("")).join(".reference")),
    };
    for sft in todo.stages {
        work.stage(sft)?;
    }
    let loaded = Loaded::default();
    let in_time = || how.until.is_none_or(|until| Instant::now() < until);
    let ends =
        side_by_side(
            work.jobs,
            &todo.runs,
            |run| {
                if in_time() { work.run(run, &loaded) } else { Ok(End::Left) }
            },
        )?;
    let count = |wanted: fn(&End) -> bool| ends.iter().filter(|end| wanted(end)).count();
    Ok(Executed {
        runs: plan.runs.len(),
        finished: count(|end| matches!(end, End::Finished)),
        stopped: count(|end| matches!(end, End::Stopped)),
        already: todo.already,
        failed: count(|end| matches!(end, End::Failed)),
        failed_earlier: todo.failed_earlier,
        left: todo.left + count(|end| matches!(end, End::Left)),
    })
}

fn make(dataset: &Dataset) -> Result<Manifest, SweepError> {
    match prepared(&dataset.pipeline, &dataset.path)? {
        Some(manifest) => Ok(manifest),
        None => Ok(prepare(&dataset.pipeline, &dataset.path)?),
    }
}

/// What all stages and runs of a call share.
struct Work<'a> {
    plan: &'a Plan,
    sweep: &'a SweepDir,
    jobs: usize,
    progress: &'a Progress,
    cache: &'a ReferenceCache,
}

/// The weights that the last run to be begun starts from. Runs that go on with others keep theirs.
type Loaded = Mutex<Option<Start>>;

/// What runs of one model and one SFT stage start from.
struct Start {
    of: (usize, Option<usize>),
    model: Arc<Model>,
}

impl Work<'_> {
    /// Without its stage no run can begin, so an error stops the sweep; the next call tries again.
    fn stage(&self, sft: &Sft) -> Result<(), SweepError> {
        let (started, directory) = (Instant::now(), self.sweep.run(&sft.id));
        let result = self.train_stage(sft, &directory);
        if let Err(error) = &result {
            directory.fail(error, started.elapsed().as_secs_f64())?;
        }
        result
    }

    fn train_stage(&self, sft: &Sft, directory: &RunDir) -> Result<(), SweepError> {
        let recipe = &self.plan.models[sft.model];
        let model = recipe.load()?;
        let training = Training {
            model: &model,
            recipe,
            // Stages go one by one.
            activations: recipe.activations,
            settings: &sft.settings,
            dataset: &self.plan.datasets[sft.dataset].path,
            seed: 0,
            checkpoints: self.plan.checkpoints,
            evaluate_every: None,
            stop: None,
        };
        let trained = training.run(directory, None, self.progress, "sft", self.cache)?;
        Model { decoder: trained.policy, ..model }.save(&directory.path().join("model"))?;
        finish(directory)
    }

    /// How the run ended; if it did not finish, its files say why. Errors are those that stop a sweep.
    fn run(&self, run: &Run, loaded: &Loaded) -> Result<End, SweepError> {
        let model = self.model(run, loaded)?;
        let (started, directory) = (Instant::now(), self.sweep.run(&run.id));
        let result = self.train(run, &model);
        self.cache.save()?;
        let seconds = started.elapsed().as_secs_f64();
        let told = |how: &str, why: &dyn std::fmt::Display| {
            say(format!("{how}: {}, seed {}: {why}", describe(&run.settings), run.seed));
        };
        match result {
            Ok(()) => Ok(End::Finished),
            Err(SweepError::Train(error)) if self.plan.stop.is_some_and(|stop| stop.ends(&error)) => {
                told("stopped", &error);
                directory.stop(error.to_string(), seconds)?;
                remove_checkpoints(&directory)?;
                Ok(End::Stopped)
            }
            Err(error) => {
                told("failed", &error);
                directory.fail(&error, seconds)?;
                Ok(End::Failed)
            }
        }
    }

    fn train(&self, run: &Run, model: &Model) -> Result<(), SweepError> {
        let recipe = &self.plan.models[run.model];
        let dataset = &self.plan.datasets[run.dataset].path;
        let encoder = Encoder::new(model, run.train.max_length, run.train.max_prompt_length);
        let objective = &run.train.objective;
        let generations = self
            .plan
            .evaluate
            .generations
            .map(|generations| Generations::read(dataset, generations.options(), objective, &encoder));
        let utility = self.plan.datasets[run.dataset].pipeline.world().map(|world| {
            Box::new(|prompt: &[Message], completion: &str| {
                let asked = prompt.last().map_or("", |message| message.content.as_str());
                world.utility(asked, completion)
            }) as Box<Utility<'_>>
        });
        let judges = Judges {
            held_out: HeldOut::read(dataset, self.plan.evaluate.pairs, objective, &encoder)?,
            corrupted: CorruptedPairs::read(dataset, objective, &encoder)?,
            generations: generations.transpose()?,
            utility: utility.as_deref(),
        };
        // The weights that runs start from are there once, whatever their number.
        let shared = model.decoder.frozen_bytes() as u64;
        let training = Training {
            model,
            recipe,
            activations: recipe.activations.of_each(self.jobs, shared),
            settings: &run.train,
            dataset,
            seed: run.seed,
            checkpoints: self.plan.checkpoints,
            evaluate_every: self.plan.evaluate.every,
            stop: self.plan.stop,
        };
        let directory = self.sweep.run(&run.id);
        let label = format!("{}, seed {}", describe(&run.settings), run.seed);
        let trained = training.run(&directory, Some(&judges), self.progress, &label, self.cache)?;
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

    /// The model that a run starts from, loaded once for all that start from it.
    fn model(&self, run: &Run, loaded: &Loaded) -> Result<Arc<Model>, SweepError> {
        let of = (run.model, run.sft);
        let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(start) = loaded.as_ref().filter(|start| start.of == of) {
            return Ok(Arc::clone(&start.model));
        }
        // The old one goes first, so that there are not two without need.
        *loaded = None;
        let model = Arc::new(start(self.plan, self.sweep, run.model, run.sft)?.load()?);
        *loaded = Some(Start { of, model: Arc::clone(&model) });
        Ok(model)
    }
}

/// What runs start from: the base, or what the SFT stage made of it.
pub(crate) fn start(
    plan: &Plan,
    sweep: &SweepDir,
    model: usize,
    sft: Option<usize>,
) -> Result<Recipe, SweepError> {
    let base = plan.models[model].clone();
    let Some(sft) = sft else { return Ok(base) };
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

/// All files are there: says so.
fn finish(directory: &RunDir) -> Result<(), SweepError> {
    if let Some(status) = directory.status()? {
        directory.set_status(&Status { state: State::Finished, ..status })?;
    }
    remove_checkpoints(directory)
}

fn remove_checkpoints(directory: &RunDir) -> Result<(), SweepError> {
    if directory.checkpoints().exists() {
        fs_err::remove_dir_all(directory.checkpoints())?;
    }
    Ok(())
}
