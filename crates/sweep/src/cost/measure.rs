//! The time of a few steps of one run, and of a part of its evaluation.

use std::{ops::ControlFlow, path::Path, time::Instant};

use prospect_dist::SingleProcess;
use prospect_eval::{CorruptedPairs, GenerationOptions, HeldOut, HeldOutPrompts};
use prospect_model::{Model, Recipe};
use prospect_train::{
    Encoder, Length, Observer, Policy, ReferenceCache, Settings, StopReason, TrainContext, TrainError,
    TrainingSet, train,
};

use super::{Item, Place};
use crate::{Plan, SweepError};

/// Optimizer steps that are measured of each kind of run.
pub(super) const STEPS: u64 = 4;
/// Steps that are measured again with the reference's log-probs known.
const KNOWN_STEPS: u64 = 2;
/// Held-out pairs that are measured.
const PAIRS: usize = 8;
/// Held-out prompts whose continuation is measured.
const PROMPTS: usize = 4;

/// What was found of one run.
pub(super) struct Measured {
    /// Seconds of steps, in rising order.
    pub(super) steps: Vec<f64>,
    /// Seconds of some of these steps where the reference's log-probs are known, if it is asked at all.
    pub(super) known_steps: Vec<f64>,
    /// Seconds of ranking a held-out pair.
    pub(super) pair: f64,
    /// Seconds of continuing a held-out prompt.
    pub(super) prompt: f64,
    /// Seconds of reading and encoding the data.
    pub(super) reading: f64,
    /// Pairs of the noise ledger, those of the reference counted for themselves.
    pub(super) corrupted: usize,
}

pub(super) fn measure(
    plan: &Plan,
    model: &Model,
    recipe: &Recipe,
    item: &Item<'_>,
    dataset: &Path,
    steps: u64,
) -> Result<Measured, SweepError> {
    let started = Instant::now();
    let settings = Settings { length: Length::Steps(STEPS.min(steps)), ..item.settings.clone() };
    let objective = &settings.objective;
    let encoder = Encoder::new(model, settings.max_length, settings.max_prompt_length);
    let examples = TrainingSet::read(dataset, objective, &encoder)?;
    let judged = item.place != Place::Stage;
    let held_out = judged.then(|| {
        let pairs = plan.evaluate.pairs.map_or(PAIRS, |pairs| pairs.min(PAIRS));
        HeldOut::read(dataset, Some(pairs), &settings, &encoder)
    });
    let corrupted = if judged { CorruptedPairs::read(dataset, &settings, &encoder)? } else { None };
    let generations = plan.evaluate.generations.filter(|_| judged).map(|generations| {
        let options = generations.options();
        let prompts = options.prompts.min(PROMPTS);
        HeldOutPrompts::read(dataset, GenerationOptions { prompts, ..options }, &settings, &encoder)
    });
    let mut watch = Stopwatch {
        held_out: held_out.transpose()?,
        generations: generations.transpose()?,
        prompts: plan.evaluate.generations.map_or(1, |generations| generations.prompts.get().min(PROMPTS)),
        ..Stopwatch::default()
    };
    let reading = started.elapsed().as_secs_f64();
    let context = TrainContext {
        model,
        train: recipe.train,
        activations: recipe.activations,
        settings: &settings,
        examples: &examples,
        encoder: &encoder,
        seed: 0,
        checkpoints: None,
        group: &SingleProcess,
    };
    // An empty cache, which is never saved: the reference is asked anew, as it is by a run whose batches no run has had.
    let cache = ReferenceCache::new(Path::new(""));
    train(&context, &cache, &mut watch)?;
    let mut again = Stopwatch::default();
    if objective.needs_reference() {
        let settings = Settings { length: Length::Steps(KNOWN_STEPS.min(steps)), ..settings.clone() };
        train(&TrainContext { settings: &settings, ..context }, &cache, &mut again)?;
    }
    for steps in [&mut watch.steps, &mut again.steps] {
        steps.sort_by(f64::total_cmp);
    }
    let corrupted = corrupted.map_or(0, |corrupted| 2 * corrupted.pairs());
    Ok(Measured {
        steps: watch.steps,
        known_steps: again.steps,
        pair: watch.pair,
        prompt: watch.prompt,
        reading,
        corrupted,
    })
}

/// Takes the time of steps, and of an evaluation at the end.
#[derive(Default)]
struct Stopwatch<'a> {
    held_out: Option<HeldOut>,
    generations: Option<HeldOutPrompts<'a>>,
    prompts: usize,
    since: Option<Instant>,
    steps: Vec<f64>,
    pair: f64,
    prompt: f64,
}

impl Observer for Stopwatch<'_> {
    fn on_step_end(
        &mut self,
        step: u64,
        total: u64,
        policy: &Policy<'_>,
        cache: &ReferenceCache,
    ) -> Result<ControlFlow<StopReason>, TrainError> {
        if let Some(since) = self.since {
            self.steps.push(since.elapsed().as_secs_f64());
        }
        if let Some(held_out) = self.held_out.as_ref().filter(|_| step == 0 || step == total) {
            // What the reference says is known from the start.
            let started = Instant::now();
            held_out.evaluate(policy, step == 0, cache)?;
            self.pair = started.elapsed().as_secs_f64() / held_out.pairs().max(1) as f64;
        }
        if let Some(generations) = self.generations.as_ref().filter(|_| step == total) {
            let started = Instant::now();
            generations.generate(policy, 0, None)?;
            self.prompt = started.elapsed().as_secs_f64() / self.prompts.max(1) as f64;
        }
        self.since = Some(Instant::now());
        Ok(ControlFlow::Continue(()))
    }
}
