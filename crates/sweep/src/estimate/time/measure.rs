//! Measurement of a few steps of one run, and of a part of its evaluation.

use std::{ops::ControlFlow, path::Path, time::Instant};

use prospect_dist::SingleProcess;
use prospect_eval::{
    Capabilities, CorruptedPairs, GenerationOptions, HeldOut, HeldOutLimits, HeldOutPrompts, LoadedTest,
};
use prospect_model::{Model, Recipe};
use prospect_train::{
    Encoder, Length, Observer, Policy, ReferenceCache, Settings, StopReason, TrainContext, TrainError,
    TrainingSet, train,
};

use super::{RunStart, SampleRun};
use crate::{SweepError, plan::SweepPlan};

/// Optimizer steps to measure of each group of runs.
pub(super) const MEASURED_STEPS: u64 = 4;
/// Steps to measure again with cached reference log-probabilities.
const CACHED_STEPS: u64 = 2;
/// Held-out pairs, and thumbs outside of pairs, to measure.
const HELD_OUT: usize = 8;
/// Questions of each capability test to measure.
const QUESTIONS: usize = 4;
/// Held-out prompts to measure generation on.
const PROMPTS: usize = 4;

/// Measured times of one run.
pub(super) struct Measurement {
    /// Seconds of each step, ascending.
    pub(super) steps: Vec<f64>,
    /// Seconds of steps with cached reference log-probabilities, ascending; empty without a
    /// reference.
    pub(super) cached_steps: Vec<f64>,
    /// Seconds to score one held-out completion.
    pub(super) completion: f64,
    /// Seconds to continue one held-out prompt.
    pub(super) prompt: f64,
    /// Seconds of the policy's answers to all questions of capability tests.
    pub(super) tests: f64,
    /// Seconds to read and encode the data.
    pub(super) reading: f64,
    /// Corrupted training pairs to evaluate, and clean ones beside them.
    pub(super) corrupted: usize,
}

/// Trains and evaluates `sample` for a few of its `steps` and returns the times.
pub(super) fn measure(
    plan: &SweepPlan,
    model: &Model,
    recipe: &Recipe,
    sample: &SampleRun<'_>,
    dataset: &Path,
    steps: u64,
) -> Result<Measurement, SweepError> {
    let started = Instant::now();
    let settings = Settings { length: Length::Steps(MEASURED_STEPS.min(steps)), ..sample.settings.clone() };
    let objective = &settings.objective;
    let encoder = Encoder::new(model, settings.max_length, settings.max_prompt_length);
    let examples = TrainingSet::read(dataset, objective, &encoder)?;
    let is_evaluated = sample.start != RunStart::Stage;
    let held_out = is_evaluated.then(|| {
        let HeldOutLimits { pairs, thumbs } = plan.evaluate.limits();
        let [pairs, thumbs] = [pairs, thumbs].map(|limit| Some(limit.unwrap_or(HELD_OUT).min(HELD_OUT)));
        HeldOut::read(dataset, HeldOutLimits { pairs, thumbs }, &settings, &encoder)
    });
    let corrupted = if is_evaluated { CorruptedPairs::read(dataset, &settings, &encoder)? } else { None };
    let generations = plan.evaluate.generations.filter(|_| is_evaluated).map(|generations| {
        let options = generations.options();
        let prompts = options.prompts.min(PROMPTS);
        HeldOutPrompts::read(dataset, GenerationOptions { prompts, ..options }, &settings, &encoder)
    });
    let capabilities = if is_evaluated { measured_tests(plan, model, &settings)? } else { Vec::new() };
    let mut watch = Stopwatch {
        held_out: held_out.transpose()?,
        capabilities,
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
        zero: None,
        group: &SingleProcess,
    };
    // An empty cache that is never saved, as for the first run with these batches.
    let cache = ReferenceCache::new(Path::new(""));
    train(&context, &cache, &mut watch)?;
    let mut cached = Stopwatch::default();
    if objective.needs_reference() {
        let settings = Settings { length: Length::Steps(CACHED_STEPS.min(steps)), ..settings.clone() };
        train(&TrainContext { settings: &settings, ..context }, &cache, &mut cached)?;
    }
    for steps in [&mut watch.steps, &mut cached.steps] {
        steps.sort_by(f64::total_cmp);
    }
    let corrupted = corrupted.map_or(0, |corrupted| corrupted.pairs());
    Ok(Measurement {
        steps: watch.steps,
        cached_steps: cached.steps,
        completion: watch.completion,
        prompt: watch.prompt,
        tests: watch.tests,
        reading,
        corrupted,
    })
}

/// The first questions of a capability test, with the number of all as a multiple of theirs.
struct MeasuredTest<'a> {
    questions: Capabilities<'a>,
    multiple: f64,
}

/// Returns the first questions of every capability test.
fn measured_tests<'a>(
    plan: &'a SweepPlan,
    model: &'a Model,
    settings: &Settings,
) -> Result<Vec<MeasuredTest<'a>>, SweepError> {
    let positions = model.decoder.architecture().max_positions;
    let measured = |test: &'a [LoadedTest]| {
        let at_once = settings.micro_batch_size;
        let mut questions = Capabilities::new(test, &model.tokenizer, &model.template, positions, at_once)?;
        let asked: usize = questions.counts().map(|counts| counts.asked).sum();
        questions.truncate(QUESTIONS);
        Ok::<_, SweepError>(MeasuredTest {
            questions,
            multiple: asked as f64 / asked.clamp(1, QUESTIONS) as f64,
        })
    };
    plan.tests.all()?.chunks(1).map(measured).collect()
}

/// Measures steps, and an evaluation at the end.
#[derive(Default)]
struct Stopwatch<'a> {
    held_out: Option<HeldOut>,
    generations: Option<HeldOutPrompts<'a>>,
    prompts: usize,
    capabilities: Vec<MeasuredTest<'a>>,
    since: Option<Instant>,
    steps: Vec<f64>,
    completion: f64,
    prompt: f64,
    tests: f64,
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
            // The first evaluation caches the reference, so the last one measures the policy alone.
            let started = Instant::now();
            held_out.evaluate(policy, step == 0, cache)?;
            self.completion = started.elapsed().as_secs_f64() / held_out.completions().max(1) as f64;
        }
        if let Some(generations) = self.generations.as_ref().filter(|_| step == total) {
            let started = Instant::now();
            generations.generate(policy, false, cache, 0, None)?;
            self.prompt = started.elapsed().as_secs_f64() / self.prompts.max(1) as f64;
        }
        for test in self.capabilities.iter().filter(|_| step == 0 || step == total) {
            // As above, the last evaluation measures the policy alone.
            let started = Instant::now();
            test.questions.evaluate(policy, step == 0, cache)?;
            if step == total {
                self.tests += test.multiple * started.elapsed().as_secs_f64();
            }
        }
        self.since = Some(Instant::now());
        Ok(ControlFlow::Continue(()))
    }
}
