//! Training of one stage or one run: claim, train, record the end.

use std::{
    num::NonZeroU64,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use prospect_core::{
    checksums,
    errors::{Resource, chain},
    interrupt,
    progress::Progress,
};
use prospect_data::Message;
use prospect_dist::ProcessGroup;
use prospect_eval::{Capabilities, CorruptedPairs, HeldOut, HeldOutPrompts, Utility};
use prospect_model::{
    Model, ModelError, Quantization, Recipe, TemplateSource, TokenizerSource, Train, WeightsSource,
    save_adapter,
};
use prospect_runs::{Claim, Claims, RunDir, State, Status, SweepDir, describe_settings};
use prospect_train::{Encoder, EncodingCache, ReferenceCache, StopReason, TrainError, TrainOutcome};

use super::{
    observer::EvaluationSets,
    rank_command::{RankCommand, is_seen_by_all_ranks},
    training::Training,
};
use crate::{
    SweepError,
    plan::{ResolvedRun, SftStage, SweepPlan, UntrainedPolicy},
};

const SHARDED_BASELINE: &str = "baselines are evaluated by one rank, which needs the whole weights: run the sweep \
     without sharding the frozen weights, or evaluate them in a call of one process with --only";

/// End of an attempt to train a run.
pub(super) enum RunEnd {
    Finished,
    Stopped,
    Failed,
    /// Out of time.
    NotStarted,
    /// Another process is working on it or has ended it.
    HeldByOther,
}

/// Trains the stages and runs of one call.
#[derive(Clone, Copy)]
pub(super) struct Worker<'a> {
    pub(super) plan: &'a SweepPlan,
    pub(super) sweep: &'a SweepDir,
    /// Runs that train at the same time.
    pub(super) jobs: usize,
    pub(super) member: &'a ProcessGroup,
    pub(super) progress: &'a Progress,
    pub(super) cache: &'a ReferenceCache,
    pub(super) encodings: &'a EncodingCache,
    pub(super) claims: &'a Claims,
}

/// Start of the run that started last, kept for further runs with the same start.
///
/// Runs that are still training hold their own.
pub(super) type LoadedStart = Mutex<Option<Start>>;

/// Loaded weights that runs of one model and one SFT stage start from.
pub(super) struct Start {
    /// Index of the model, and of the SFT stage.
    key: (usize, Option<usize>),
    model: Arc<Model>,
}

impl Worker<'_> {
    /// Trains a stage, unless another process holds or has finished it.
    ///
    /// An error stops the sweep, unless the stage [diverged](has_diverged), which fails its runs.
    pub(super) fn train_stage(&self, sft: &SftStage) -> Result<(), SweepError> {
        interrupt::check()?;
        let Some(claim) = self.claims.take(&sft.id)? else { return Ok(()) };
        let (started, directory) = (Instant::now(), self.sweep.run(&sft.id));
        directory.invalidate_cache();
        if directory.is_finished() {
            return Ok(());
        }
        match self.train_claimed_stage(sft, &directory, &claim) {
            Err(error) if self.ends_all_ranks(&error) || ends_sweep(&error) => Err(error),
            Err(error) if claim.holds() => {
                directory.fail(&error, started.elapsed().as_secs_f64())?;
                Err(error)
            }
            Ok(Some(StopReason::Interrupted { .. })) => interrupt::check().map_err(SweepError::from),
            Ok(Some(reason)) if claim.holds() => {
                directory.fail(&reason, started.elapsed().as_secs_f64())?;
                Err(TrainError::Incomplete(reason).into())
            }
            _ => Ok(()),
        }
    }

    /// Marks a run as failed because its stage did, unless another process holds it or it
    /// `has_ended`.
    pub(super) fn fail_run(
        &self,
        run: &ResolvedRun,
        error: &SweepError,
        has_ended: impl Fn(&RunDir) -> bool,
    ) -> Result<RunEnd, SweepError> {
        let Some(_claim) = self.claims.take(&run.id)? else { return Ok(RunEnd::HeldByOther) };
        let directory = self.sweep.run(&run.id);
        directory.invalidate_cache();
        if has_ended(&directory) {
            return Ok(RunEnd::HeldByOther);
        }
        tracing::info!("failed: {}, seed {}: {error}", describe_settings(&run.settings), run.seed);
        directory.fail(error, 0.0)?;
        Ok(RunEnd::Failed)
    }

    /// Trains a stage. Returns the reason if it ended before its last step.
    fn train_claimed_stage(
        &self,
        sft: &SftStage,
        directory: &RunDir,
        claim: &Claim,
    ) -> Result<Option<StopReason>, SweepError> {
        RankCommand::TrainStage(sft.id.clone()).broadcast(&*self.member.collective)?;
        let model = self.plan.models[sft.model].load_as(self.member)?;
        let training = self.stage_training(sft, &model);
        let trained = match training.run(directory, claim, None, self.progress, "sft", self.cache)? {
            TrainOutcome::Completed(trained) => trained,
            TrainOutcome::Stopped(reason) => return Ok(Some(reason)),
        };
        if !claim.still_holds() {
            return Ok(Some(StopReason::TakenOver));
        }
        Model { decoder: trained.policy, ..model }.save(&directory.path().join("model"))?;
        mark_finished(directory)?;
        Ok(None)
    }

    pub(super) fn stage_training<'b>(&'b self, sft: &'b SftStage, model: &'b Model) -> Training<'b> {
        let recipe = &self.plan.models[sft.model];
        Training {
            model,
            recipe,
            // Stages train one at a time, so each may use all of the memory.
            activations: recipe.activations,
            settings: &sft.settings,
            dataset: &self.plan.datasets[sft.dataset].path,
            seed: sft.seed,
            checkpoints: self.plan.checkpoints,
            evaluate_every: None,
            sample_every: None,
            stop: None,
            encodings: self.encodings,
            zero: self.member.zero(),
            group: &*self.member.collective,
        }
    }

    /// Returns true if only some ranks see the error. It then ends all ranks, and the next call
    /// resumes from the last checkpoint.
    fn ends_all_ranks(&self, error: &SweepError) -> bool {
        self.member.collective.world_size() > 1 && !is_seen_by_all_ranks(error)
    }

    /// Trains a run, unless another process holds it or it `has_ended`, and returns how it ended.
    ///
    /// The run's files record why it failed or stopped. Errors are those that stop the sweep.
    pub(super) fn train_run(
        &self,
        run: &ResolvedRun,
        loaded: &LoadedStart,
        has_ended: impl Fn(&RunDir) -> bool,
    ) -> Result<RunEnd, SweepError> {
        interrupt::check()?;
        let directory = self.sweep.run(&run.id);
        directory.invalidate_cache();
        if has_ended(&directory) {
            return Ok(RunEnd::HeldByOther);
        }
        let Some(claim) = self.claims.take(&run.id)? else { return Ok(RunEnd::HeldByOther) };
        directory.invalidate_cache();
        if has_ended(&directory) {
            return Ok(RunEnd::HeldByOther);
        }
        if run.untrained.is_none() {
            RankCommand::TrainRun(run.id.clone()).broadcast(&*self.member.collective)?;
        } else if self.member.sharded_store.is_some() {
            directory.fail(&SweepError::Preflight(SHARDED_BASELINE.to_owned()), 0.0)?;
            return Ok(RunEnd::Failed);
        }
        let model = self.start_model(run, loaded)?;
        let started = Instant::now();
        let result = self.train_claimed_run(run, &model, &claim);
        self.cache.save()?;
        let seconds = started.elapsed().as_secs_f64();
        let report = |end: State, reason: &dyn std::fmt::Display| {
            tracing::info!("{end}: {}, seed {}: {reason}", describe_settings(&run.settings), run.seed);
        };
        let stopped = |why: &dyn std::fmt::Display| {
            report(State::Stopped, why);
            directory.stop(why.to_string(), seconds)?;
            remove_checkpoints(&directory)?;
            Ok(RunEnd::Stopped)
        };
        match result {
            Ok(None) => Ok(RunEnd::Finished),
            Err(error) if self.ends_all_ranks(&error) || ends_sweep(&error) => Err(error),
            Ok(Some(StopReason::Interrupted { .. })) => {
                interrupt::check()?;
                // Another rank was interrupted.
                Ok(RunEnd::NotStarted)
            }
            Ok(Some(_)) | Err(_) if !claim.holds() => Ok(RunEnd::HeldByOther),
            Ok(Some(reason @ StopReason::EarlyStop { .. })) => stopped(&reason),
            Err(SweepError::Train(error)) if self.plan.stop.is_some_and(|stop| stop.stops_on(&error)) => {
                stopped(&error)
            }
            Ok(Some(reason)) => {
                report(State::Failed, &reason);
                directory.fail(&reason, seconds)?;
                Ok(RunEnd::Failed)
            }
            Err(error) => {
                report(State::Failed, &error);
                directory.fail(&error, seconds)?;
                Ok(RunEnd::Failed)
            }
        }
    }

    /// Trains a run. Returns the reason if it ended before its last step.
    fn train_claimed_run(
        &self,
        run: &ResolvedRun,
        model: &Model,
        claim: &Claim,
    ) -> Result<Option<StopReason>, SweepError> {
        let recipe = &self.plan.models[run.model];
        let dataset = &self.plan.datasets[run.dataset].path;
        let encoder = Encoder::new(model, run.train.max_length, run.train.max_prompt_length)
            .with_cache(model, self.encodings);
        let generations =
            self.plan.evaluate.generations.map(|generations| {
                HeldOutPrompts::read(dataset, generations.options(), &run.train, &encoder)
            });
        let utility = self.plan.datasets[run.dataset].world().map(|world| {
            Box::new(|prompt: &[Message], completion: &str| {
                let question = prompt.last().map_or("", |message| message.content.as_str());
                world.utility(question, completion)
            }) as Box<Utility<'_>>
        });
        let evaluation = EvaluationSets {
            held_out: HeldOut::read(dataset, self.plan.evaluate.limits(), &run.train, &encoder)?,
            corrupted: CorruptedPairs::read(dataset, &run.train, &encoder)?,
            generations: generations.transpose()?,
            capabilities: self.capabilities(run, model)?,
            utility: utility.as_deref(),
        };
        let training = self.run_training(run, model);
        let directory = self.sweep.run(&run.id);
        let label = format!("{}, seed {}", describe_settings(&run.settings), run.seed);
        if let Some(policy) = run.untrained {
            let policy = match policy {
                UntrainedPolicy::Start => None,
                UntrainedPolicy::Model(index) => Some(self.plan.policies[index].load()?),
            };
            let policy = policy.as_ref().map(|policy| &policy.decoder);
            training.evaluate(
                &directory,
                claim,
                &evaluation,
                policy,
                (self.progress, label.as_str()),
                self.cache,
            )?;
            mark_finished(&directory)?;
            return Ok(None);
        }
        let outcome =
            training.run(&directory, claim, Some(&evaluation), self.progress, &label, self.cache)?;
        let trained = match outcome {
            TrainOutcome::Completed(trained) => trained,
            TrainOutcome::Stopped(reason) => return Ok(Some(reason)),
        };
        if !claim.still_holds() {
            return Ok(Some(StopReason::TakenOver));
        }
        match recipe.train {
            Train::Lora(lora) => {
                let folder = directory.path().join("adapter");
                save_adapter(&trained.policy, lora, &model.name, &folder)?;
                model.save_generation_config(&folder)?;
            }
            Train::Full => {
                Model { decoder: trained.policy, ..model.clone() }.save(&directory.path().join("model"))?;
            }
        }
        mark_finished(&directory)?;
        Ok(None)
    }

    /// Tokenizes the questions of the capability tests; None without tests.
    fn capabilities<'b>(
        &'b self,
        run: &ResolvedRun,
        model: &'b Model,
    ) -> Result<Option<Capabilities<'b>>, SweepError> {
        let tests = self.plan.tests.all()?;
        if tests.is_empty() {
            return Ok(None);
        }
        let positions = model.decoder.architecture().max_positions;
        let at_once = run.train.micro_batch_size;
        Ok(Some(Capabilities::new(tests, &model.tokenizer, &model.template, positions, at_once)?))
    }

    pub(super) fn run_training<'b>(&'b self, run: &'b ResolvedRun, model: &'b Model) -> Training<'b> {
        let recipe = &self.plan.models[run.model];
        // Runs that train at the same time share one copy of the frozen weights.
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
            sample_every: self
                .plan
                .evaluate
                .generations
                .and_then(|generations| generations.every)
                .map(NonZeroU64::get),
            stop: self.plan.stop,
            encodings: self.encodings,
            zero: self.member.zero(),
            group: &*self.member.collective,
        }
    }

    /// Returns the model that a run starts from, loading it only if the last run started from
    /// another.
    pub(super) fn start_model(
        &self,
        run: &ResolvedRun,
        loaded: &LoadedStart,
    ) -> Result<Arc<Model>, SweepError> {
        let key = (run.model, run.sft);
        let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(start) = loaded.as_ref().filter(|start| start.key == key) {
            return Ok(Arc::clone(&start.model));
        }
        // Frees the previous model first, so that memory holds only one.
        *loaded = None;
        let model = Arc::new(load_start(self.plan, self.sweep, run.model, run.sft, self.member)?);
        *loaded = Some(Start { key, model: Arc::clone(&model) });
        Ok(model)
    }
}

/// Loads the model that runs start from: the base model, or the result of the SFT stage, whose
/// files are checked against their recorded hashes.
pub(crate) fn load_start(
    plan: &SweepPlan,
    sweep: &SweepDir,
    model: usize,
    sft: Option<usize>,
    member: &ProcessGroup,
) -> Result<Model, SweepError> {
    let base = &plan.models[model];
    let Some(sft) = sft else { return Ok(base.load_as(member)?) };
    let stage = sweep.run(&plan.sft[sft].id).path().to_owned();
    let folder = stage.join("model");
    if !folder.join(checksums::FILE).exists() {
        tracing::warn!(
            "{} has no {}: damage of the weights of this SFT stage would not be found; remove {} to train it again",
            folder.display(),
            checksums::FILE,
            stage.display()
        );
    }
    let recipe = Recipe {
        name: std::path::absolute(&folder)?.display().to_string(),
        weights: WeightsSource::Folder(folder),
        tokenizer: TokenizerSource::Weights,
        chat_template: TemplateSource::Weights,
        quantization: base.quantization.map(Quantization::trained),
        ..base.clone()
    };
    recipe.load_as(member).map_err(|error| match error {
        ModelError::Damaged { damage, .. } => SweepError::DamagedStage { damage, stage },
        other => other.into(),
    })
}

/// Returns true if an error is not the fault of the run, and would end the other runs too: a full
/// disk, for example. The run stays resumable, and the sweep ends.
fn ends_sweep(error: &SweepError) -> bool {
    Resource::of(&chain(error)).is_some()
}

/// Returns true if a loss, a gradient or weights became infinite or NaN. Every call would find the
/// same.
pub(super) fn has_diverged(error: &SweepError) -> bool {
    matches!(error, SweepError::Train(TrainError::Diverged { .. }))
}

/// Marks a run as finished, once all of its files are written.
fn mark_finished(directory: &RunDir) -> Result<(), SweepError> {
    // Files that somebody removed during the run must not be missing from a finished one.
    directory.config()?;
    if let Some(status) = directory.status()? {
        directory.record_hashes()?;
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
