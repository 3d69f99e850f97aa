//! Does what is missing of a plan.

use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use prospect_core::progress::{Progress, say};
use prospect_data::Message;
use prospect_eval::{CorruptedPairs, Generations, HeldOut, Utility};
use prospect_group::Member;
use prospect_model::{
    Model, Quantization, Recipe, TemplateSource, TokenizerSource, Train, WeightsSource, save_adapter,
};
use prospect_runs::{Claim, Claims, RunDir, State, Status, SweepDir};
use prospect_train::{Encoder, ReferenceCache};

use crate::{
    Only, Plan, Run, SweepError,
    observe::Judges,
    plan::{Sft, describe},
    search::Trial,
};

mod sharing;
mod side_by_side;
mod todo;
mod together;
mod training;

use sharing::{datasets, work_off};
pub(crate) use todo::Todo;
use together::Task;
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
    /// Runs that other processes finished or stopped in the meantime.
    pub elsewhere: usize,
    /// Runs that ended with an error, in this call or in the meantime; their `status.json` and `error.log` say which.
    pub failed: usize,
    /// Runs that had failed before and were not tried again.
    pub failed_earlier: usize,
    /// Runs that were not begun, because they were not asked for or time was up, or that other processes are at.
    pub left: usize,
}

impl Executed {
    fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.finished += other.finished;
        self.stopped += other.stopped;
        self.already += other.already;
        self.elsewhere += other.elsewhere;
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
    /// What to do when others are at all that is left.
    pub others: Others,
    /// This process's place in the group that trains each run together. Rank 0 decides, evaluates and writes for all.
    pub member: Member,
}

impl Default for Execution {
    fn default() -> Self {
        Self {
            jobs: NonZeroUsize::MIN,
            only: Only::default(),
            until: None,
            retry_failed: false,
            others: Others::default(),
            member: Member::default(),
        }
    }
}

/// What to do when other processes are at all runs that are left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Others {
    /// Wait until the runs have ended, or take over those of a process that is gone.
    #[default]
    Wait,
    /// Leave, once it is known that those processes live: whoever takes the last run ends the sweep.
    Leave,
}

/// How a run ended.
enum End {
    Finished,
    Stopped,
    Failed,
    /// It was not begun.
    Left,
    /// Another process is at it, or has ended it.
    Elsewhere,
}

/// Does what is missing of `plan` in `sweep`, together with other processes that do the same. `commands` reproduce it. A run
/// that fails does not stop the others.
pub fn execute(
    plan: &Plan,
    sweep: &SweepDir,
    how: &Execution,
    commands: &[String],
) -> Result<Executed, SweepError> {
    let group = &*how.member.group;
    if group.size() > 1 && how.jobs > NonZeroUsize::MIN {
        return Err(SweepError::Setting(
            "--jobs trains several runs side by side, and ranks train one run together: leave one of them out"
                .to_owned(),
        ));
    }
    // Ranks that were started otherwise would do other runs.
    group.agree(plan.fingerprint()?.into_bytes())?;
    let claims = sweep.claims();
    if !how.member.is_first() {
        together::take_part(plan, sweep, how, &claims)?;
        return Ok(Executed::default());
    }
    together::tell_of_idle_ranks(plan, group);
    let manifests = datasets(plan, &claims)?;
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
        let of_rung = Plan { runs: runs.clone(), ..plan.clone() };
        // Runs of a later rung are more work to come.
        let others = if plan.later.len() > rung { Others::Wait } else { how.others };
        executed.add(work_off(&of_rung, sweep, &Execution { others, ..how.clone() }, &manifests, &claims)?);
        let Some(search) = plan.search else { break };
        let winners = search.winners(sweep, runs, rung)?;
        match plan.later.get(rung) {
            None => {
                record(&rungs, &of_trials(runs, &winners))?;
                break;
            }
            Some(_) if winners.is_empty() => break,
            Some(next) => {
                let next = of_trials(next, &winners);
                rungs.push(next);
            }
        }
    }
    Task::End.tell(group)?;
    Ok(executed)
}

/// Where the log-probs of references are kept: beside the sweeps of a folder, for all of them.
fn reference_cache(sweep: &SweepDir) -> ReferenceCache {
    ReferenceCache::at(&sweep.path().parent().unwrap_or(Path::new("")).join(".reference"))
}

fn of_trials(runs: &[Run], trials: &BTreeSet<Trial>) -> Vec<Run> {
    runs.iter().filter(|run| run.trial.is_some_and(|trial| trials.contains(&trial))).cloned().collect()
}

/// How many runs [`execute`] would begin; of a search, in the first rung that is not over.
pub fn left(plan: &Plan, sweep: &SweepDir, how: &Execution) -> Result<usize, SweepError> {
    let mut runs = plan.runs.clone();
    for rung in 0.. {
        let left = Todo::new(plan, &runs.iter().collect::<Vec<_>>(), sweep, how).runs.len();
        let (Some(search), Some(next), 0) = (plan.search, plan.later.get(rung), left) else {
            return Ok(left);
        };
        runs = of_trials(next, &search.winners(sweep, &runs, rung)?);
    }
    Ok(0)
}

/// Writes down what is planned, for those who look at a sweep before its first worker has begun.
pub fn announce(plan: &Plan, sweep: &SweepDir, commands: &[String]) -> Result<(), SweepError> {
    if !sweep.path().join("experiment.json").exists() {
        sweep.write_experiment(&plan.record(commands, &[], std::slice::from_ref(&plan.runs), &[])?)?;
    }
    Ok(())
}

/// What all stages and runs of a call share.
struct Work<'a> {
    plan: &'a Plan,
    sweep: &'a SweepDir,
    jobs: usize,
    member: &'a Member,
    progress: &'a Progress,
    cache: &'a ReferenceCache,
    claims: &'a Claims,
}

/// The weights that the last run to be begun starts from. Runs that go on with others keep theirs.
type Loaded = Mutex<Option<Start>>;

/// What runs of one model and one SFT stage start from.
struct Start {
    of: (usize, Option<usize>),
    model: Arc<Model>,
}

impl Work<'_> {
    /// Trains a stage, unless another process is at it or has finished it. Without its stage no run can begin, so an error
    /// stops the sweep; the next call tries again.
    fn stage(&self, sft: &Sft) -> Result<(), SweepError> {
        let Some(claim) = self.claims.take(&sft.id)? else { return Ok(()) };
        let (started, directory) = (Instant::now(), self.sweep.run(&sft.id));
        directory.look_anew();
        if directory.is_finished() {
            return Ok(());
        }
        match self.train_stage(sft, &directory, &claim) {
            Err(error) if self.ends_all(&error) => Err(error),
            Err(error) if claim.holds() => {
                directory.fail(&error, started.elapsed().as_secs_f64())?;
                Err(error)
            }
            _ => Ok(()),
        }
    }

    fn train_stage(&self, sft: &Sft, directory: &RunDir, claim: &Claim) -> Result<(), SweepError> {
        Task::Stage(sft.id.clone()).tell(&*self.member.group)?;
        let model = self.plan.models[sft.model].load_as(self.member)?;
        let training = self.training_of_stage(sft, &model);
        let trained = training.run(directory, claim, None, self.progress, "sft", self.cache)?;
        Model { decoder: trained.policy, ..model }.save(&directory.path().join("model"))?;
        finish(directory)
    }

    fn training_of_stage<'b>(&'b self, sft: &'b Sft, model: &'b Model) -> Training<'b> {
        let recipe = &self.plan.models[sft.model];
        Training {
            model,
            recipe,
            // Stages go one by one.
            activations: recipe.activations,
            settings: &sft.settings,
            dataset: &self.plan.datasets[sft.dataset].path,
            seed: 0,
            checkpoints: self.plan.checkpoints,
            evaluate_every: None,
            stop: None,
            group: &*self.member.group,
        }
    }

    /// Whether an error is that of one rank only, which ends all of them: what was in work goes on from its last checkpoint.
    fn ends_all(&self, error: &SweepError) -> bool {
        self.member.group.size() > 1 && !together::seen_by_all(error)
    }

    /// How the run ended, unless another process is at it or `is_over` after all; if it did not finish, its files say why.
    /// Errors are those that stop a sweep.
    fn run(&self, run: &Run, loaded: &Loaded, is_over: impl Fn(&RunDir) -> bool) -> Result<End, SweepError> {
        let Some(claim) = self.claims.take(&run.id)? else { return Ok(End::Elsewhere) };
        let directory = self.sweep.run(&run.id);
        directory.look_anew();
        if is_over(&directory) {
            return Ok(End::Elsewhere);
        }
        Task::Run(run.id.clone()).tell(&*self.member.group)?;
        let model = self.model(run, loaded)?;
        let started = Instant::now();
        let result = self.train(run, &model, &claim);
        self.cache.save()?;
        let seconds = started.elapsed().as_secs_f64();
        let told = |how: &str, why: &dyn std::fmt::Display| {
            say(format!("{how}: {}, seed {}: {why}", describe(&run.settings), run.seed));
        };
        match result {
            Ok(()) => Ok(End::Finished),
            Err(error) if self.ends_all(&error) => Err(error),
            Err(_) if !claim.holds() => Ok(End::Elsewhere),
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

    fn train(&self, run: &Run, model: &Model, claim: &Claim) -> Result<(), SweepError> {
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
        let training = self.training_of_run(run, model);
        let directory = self.sweep.run(&run.id);
        let label = format!("{}, seed {}", describe(&run.settings), run.seed);
        let trained = training.run(&directory, claim, Some(&judges), self.progress, &label, self.cache)?;
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

    fn training_of_run<'b>(&'b self, run: &'b Run, model: &'b Model) -> Training<'b> {
        let recipe = &self.plan.models[run.model];
        // The weights that runs start from are there once, whatever their number.
        let shared = model.decoder.frozen_bytes() as u64;
        Training {
            model,
            recipe,
            activations: recipe.activations.of_each(self.jobs, shared),
            settings: &run.train,
            dataset: &self.plan.datasets[run.dataset].path,
            seed: run.seed,
            checkpoints: self.plan.checkpoints,
            evaluate_every: self.plan.evaluate.every,
            stop: self.plan.stop,
            group: &*self.member.group,
        }
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
        let model = Arc::new(start(self.plan, self.sweep, run.model, run.sft)?.load_as(self.member)?);
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
