//! One stage, one run: claimed, trained, and told how it ended.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use prospect_core::progress::{Progress, say};
use prospect_data::Message;
use prospect_dist::ProcessGroup;
use prospect_eval::{CorruptedPairs, HeldOut, HeldOutPrompts, Utility};
use prospect_model::{
    Model, Quantization, Recipe, TemplateSource, TokenizerSource, Train, WeightsSource, save_adapter,
};
use prospect_runs::{Claim, Claims, RunDir, State, Status, SweepDir};
use prospect_train::{Encoder, ReferenceCache, StopReason, TrainError, TrainOutcome};

use super::{
    together::{self, Task},
    training::Training,
};
use crate::{
    Plan, Run, SweepError,
    observe::Judges,
    plan::{Sft, describe},
};

/// How a run ended.
pub(super) enum End {
    Finished,
    Stopped,
    Failed,
    /// It was not begun.
    Left,
    /// Another process is at it, or has ended it.
    Elsewhere,
}

/// What all stages and runs of a call share.
pub(super) struct Work<'a> {
    pub(super) plan: &'a Plan,
    pub(super) sweep: &'a SweepDir,
    pub(super) jobs: usize,
    pub(super) member: &'a ProcessGroup,
    pub(super) progress: &'a Progress,
    pub(super) cache: &'a ReferenceCache,
    pub(super) claims: &'a Claims,
}

/// The weights that the last run to be begun starts from. Runs that go on with others keep theirs.
pub(super) type Loaded = Mutex<Option<Start>>;

/// What runs of one model and one SFT stage start from.
pub(super) struct Start {
    of: (usize, Option<usize>),
    model: Arc<Model>,
}

impl Work<'_> {
    /// Trains a stage, unless another process is at it or has finished it. Without its stage no run can begin, so an error
    /// stops the sweep; the next call tries again.
    pub(super) fn stage(&self, sft: &Sft) -> Result<(), SweepError> {
        let Some(claim) = self.claims.take(&sft.id)? else { return Ok(()) };
        let (started, directory) = (Instant::now(), self.sweep.run(&sft.id));
        directory.invalidate_cache();
        if directory.is_finished() {
            return Ok(());
        }
        match self.train_stage(sft, &directory, &claim) {
            Err(error) if self.ends_all(&error) => Err(error),
            Err(error) if claim.holds() => {
                directory.fail(&error, started.elapsed().as_secs_f64())?;
                Err(error)
            }
            Ok(Some(reason)) if claim.holds() => {
                directory.fail(&reason, started.elapsed().as_secs_f64())?;
                Err(TrainError::Incomplete(reason).into())
            }
            _ => Ok(()),
        }
    }

    /// Trains a stage. Returns the reason if it ended before its last step.
    fn train_stage(
        &self,
        sft: &Sft,
        directory: &RunDir,
        claim: &Claim,
    ) -> Result<Option<StopReason>, SweepError> {
        Task::Stage(sft.id.clone()).tell(&*self.member.collective)?;
        let model = self.plan.models[sft.model].load_as(self.member)?;
        let training = self.training_of_stage(sft, &model);
        let trained = match training.run(directory, claim, None, self.progress, "sft", self.cache)? {
            TrainOutcome::Completed(trained) => trained,
            TrainOutcome::Stopped(reason) => return Ok(Some(reason)),
        };
        Model { decoder: trained.policy, ..model }.save(&directory.path().join("model"))?;
        finish(directory)?;
        Ok(None)
    }

    pub(super) fn training_of_stage<'b>(&'b self, sft: &'b Sft, model: &'b Model) -> Training<'b> {
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
            group: &*self.member.collective,
        }
    }

    /// Whether an error is that of one rank only, which ends all of them: what was in work goes on from its last checkpoint.
    fn ends_all(&self, error: &SweepError) -> bool {
        self.member.collective.world_size() > 1 && !together::seen_by_all(error)
    }

    /// How the run ended, unless another process is at it or `is_over` after all; if it did not finish, its files say why.
    /// Errors are those that stop a sweep.
    pub(super) fn run(
        &self,
        run: &Run,
        loaded: &Loaded,
        is_over: impl Fn(&RunDir) -> bool,
    ) -> Result<End, SweepError> {
        let Some(claim) = self.claims.take(&run.id)? else { return Ok(End::Elsewhere) };
        let directory = self.sweep.run(&run.id);
        directory.invalidate_cache();
        if is_over(&directory) {
            return Ok(End::Elsewhere);
        }
        Task::Run(run.id.clone()).tell(&*self.member.collective)?;
        let model = self.model(run, loaded)?;
        let started = Instant::now();
        let result = self.train(run, &model, &claim);
        self.cache.save()?;
        let seconds = started.elapsed().as_secs_f64();
        let told = |how: &str, why: &dyn std::fmt::Display| {
            say(format!("{how}: {}, seed {}: {why}", describe(&run.settings), run.seed));
        };
        let stopped = |why: &dyn std::fmt::Display| {
            told("stopped", why);
            directory.stop(why.to_string(), seconds)?;
            remove_checkpoints(&directory)?;
            Ok(End::Stopped)
        };
        match result {
            Ok(None) => Ok(End::Finished),
            Err(error) if self.ends_all(&error) => Err(error),
            Ok(Some(_)) | Err(_) if !claim.holds() => Ok(End::Elsewhere),
            Ok(Some(reason @ StopReason::EarlyStop { .. })) => stopped(&reason),
            Err(SweepError::Train(error)) if self.plan.stop.is_some_and(|stop| stop.ends(&error)) => {
                stopped(&error)
            }
            Ok(Some(reason)) => {
                told("failed", &reason);
                directory.fail(&reason, seconds)?;
                Ok(End::Failed)
            }
            Err(error) => {
                told("failed", &error);
                directory.fail(&error, seconds)?;
                Ok(End::Failed)
            }
        }
    }

    /// Trains a run. Returns the reason if it ended before its last step.
    fn train(&self, run: &Run, model: &Model, claim: &Claim) -> Result<Option<StopReason>, SweepError> {
        let recipe = &self.plan.models[run.model];
        let dataset = &self.plan.datasets[run.dataset].path;
        let encoder = Encoder::new(model, run.train.max_length, run.train.max_prompt_length);
        let generations =
            self.plan.evaluate.generations.map(|generations| {
                HeldOutPrompts::read(dataset, generations.options(), &run.train, &encoder)
            });
        let utility = self.plan.datasets[run.dataset].pipeline.world().map(|world| {
            Box::new(|prompt: &[Message], completion: &str| {
                let asked = prompt.last().map_or("", |message| message.content.as_str());
                world.utility(asked, completion)
            }) as Box<Utility<'_>>
        });
        let judges = Judges {
            held_out: HeldOut::read(dataset, self.plan.evaluate.pairs, &run.train, &encoder)?,
            corrupted: CorruptedPairs::read(dataset, &run.train, &encoder)?,
            generations: generations.transpose()?,
            utility: utility.as_deref(),
        };
        let training = self.training_of_run(run, model);
        let directory = self.sweep.run(&run.id);
        let label = format!("{}, seed {}", describe(&run.settings), run.seed);
        let outcome = training.run(&directory, claim, Some(&judges), self.progress, &label, self.cache)?;
        let trained = match outcome {
            TrainOutcome::Completed(trained) => trained,
            TrainOutcome::Stopped(reason) => return Ok(Some(reason)),
        };
        match recipe.train {
            Train::Lora(lora) => {
                save_adapter(&trained.policy, lora, &model.name, &directory.path().join("adapter"))?;
            }
            Train::Full => {
                Model { decoder: trained.policy, ..model.clone() }.save(&directory.path().join("model"))?;
            }
        }
        finish(&directory)?;
        Ok(None)
    }

    pub(super) fn training_of_run<'b>(&'b self, run: &'b Run, model: &'b Model) -> Training<'b> {
        let recipe = &self.plan.models[run.model];
        // The weights that runs start from are there once, whatever their number.
        let shared = model.decoder.frozen_bytes() as u64;
        Training {
            model,
            recipe,
            activations: recipe.activations.per_run(self.jobs, shared),
            settings: &run.train,
            dataset: &self.plan.datasets[run.dataset].path,
            seed: run.seed,
            checkpoints: self.plan.checkpoints,
            evaluate_every: self.plan.evaluate.every,
            stop: self.plan.stop,
            group: &*self.member.collective,
        }
    }

    /// The model that a run starts from, loaded once for all that start from it.
    pub(super) fn model(&self, run: &Run, loaded: &Loaded) -> Result<Arc<Model>, SweepError> {
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
