//! Metrics and evaluations that a run writes while it trains.

use std::{collections::BTreeMap, ops::ControlFlow};

use prospect_core::progress::Progress;
use prospect_eval::{
    Capabilities, CapabilityResults, CorruptedPairs, Evaluation, HeldOut, HeldOutPrompts, PolicySamples,
    Utility,
};
use prospect_runs::{
    Claim, Generation, MetricsRecord, MetricsWriter, PairOutcome, QuestionOutcome, RecordKind, RunDir,
    ThumbOutcome,
};
use prospect_train::{Observer, Policy, ReferenceCache, StopReason, TrainError};

use crate::{SweepError, config::StopFile};

/// Data that a policy is evaluated on.
pub(super) struct EvaluationSets<'a> {
    pub(super) held_out: HeldOut,
    pub(super) corrupted: Option<CorruptedPairs>,
    pub(super) generations: Option<HeldOutPrompts<'a>>,
    pub(super) capabilities: Option<Capabilities<'a>>,
    /// True utility of generated text, if the data comes from a synthetic world.
    pub(super) utility: Option<&'a Utility<'a>>,
}

/// Writes metrics, and evaluates at the start, at regular intervals, and at the end.
pub(super) struct RunObserver<'a> {
    pub(super) metrics: MetricsWriter,
    /// Claim on the run. Training ends if another process takes it over.
    pub(super) claim: &'a Claim,
    /// None for stages, which are not evaluated.
    pub(super) evaluation: Option<&'a EvaluationSets<'a>>,
    /// Optimizer steps between evaluations.
    pub(super) evaluate_every: Option<u64>,
    /// Optimizer steps between samples of the policy; None for no samples.
    pub(super) sample_every: Option<u64>,
    /// True if the policy is the reference before the first step.
    pub(super) is_start: bool,
    pub(super) directory: &'a RunDir,
    /// Early stopping.
    pub(super) stop: Option<StopFile>,
    pub(super) seed: u64,
    pub(super) progress: &'a Progress,
    pub(super) label: String,
    /// Held-out pairs of the last evaluation.
    pub(super) outcomes: Vec<PairOutcome>,
    /// Held-out thumbs of the last evaluation.
    pub(super) thumbs: Vec<ThumbOutcome>,
    /// Generated texts of the last evaluation.
    pub(super) generations: Vec<Generation>,
    /// Answers to the questions of capability tests, of the last evaluation.
    pub(super) questions: Vec<QuestionOutcome>,
}

impl Observer for RunObserver<'_> {
    fn on_step_end(
        &mut self,
        step: u64,
        total: u64,
        policy: &Policy<'_>,
        cache: &ReferenceCache,
    ) -> Result<ControlFlow<StopReason>, TrainError> {
        if !self.claim.holds() {
            return Ok(ControlFlow::Break(StopReason::TakenOver));
        }
        let (first, last) = (step == 0, step == total);
        let due = first || last || self.evaluate_every.is_some_and(|every| step.is_multiple_of(every));
        let samples = self.sample(step, total, policy, cache)?;
        if let Some(sets) = self.evaluation.filter(|_| due) {
            let at_start = first && self.is_start;
            let mut evaluation = sets.held_out.evaluate(policy, at_start, cache)?;
            if last {
                sets.held_out.add_probabilities(policy, cache, &mut evaluation)?;
            }
            let Evaluation { mut values, outcomes, thumbs } = evaluation;
            check_finite(step, &outcomes, &thumbs)?;
            (self.outcomes, self.thumbs) = (outcomes, thumbs);
            if let Some(corrupted) = sets.corrupted.as_ref().filter(|_| last) {
                values.extend(corrupted.evaluate(policy, cache)?);
            }
            if let Some(generations) = sets.generations.as_ref().filter(|_| first || last) {
                let generated = generations.generate(policy, at_start, cache, self.seed, sets.utility)?;
                values.extend(generated.values);
                self.generations = generated.generations;
            }
            if let Some(capabilities) = sets.capabilities.as_ref().filter(|_| first || last) {
                let CapabilityResults { values: scores, outcomes } =
                    capabilities.evaluate(policy, at_start, cache)?;
                values.extend(scores);
                self.questions = outcomes;
            }
            values.extend(samples);
            let headline = ["eval_rewards/accuracies", "eval_thumbs/auc"];
            let accuracy = headline.into_iter().find_map(|metric| values.get(metric)).copied();
            self.metrics.append(&MetricsRecord { kind: RecordKind::Eval, step, values })?;
            let stop = self.stop.zip(accuracy);
            if let Some(reason) = stop.and_then(|(stop, accuracy)| stop.reason(step, total, accuracy)) {
                return Ok(ControlFlow::Break(StopReason::EarlyStop { step, reason }));
            }
        } else if !samples.is_empty() {
            self.metrics.append(&MetricsRecord { kind: RecordKind::Eval, step, values: samples })?;
        }
        if step > 0 {
            self.progress.advance(1, &self.label);
        }
        Ok(ControlFlow::Continue(()))
    }

    fn on_log(&mut self, record: MetricsRecord) -> Result<(), TrainError> {
        Ok(self.metrics.append(&record)?)
    }
}

/// Fails if held-out feedback has log-probs that are not finite, as with NaN weights.
fn check_finite(step: u64, pairs: &[PairOutcome], thumbs: &[ThumbOutcome]) -> Result<(), TrainError> {
    let of_pairs = pairs.iter().flat_map(|pair| [pair.chosen, pair.rejected]);
    let mut values = of_pairs.chain(thumbs.iter().map(|thumb| thumb.log_ratio));
    match values.find(|value| !value.is_finite()) {
        Some(value) => Err(TrainError::Diverged { step, what: "log-ratio of held-out feedback", value }),
        None => Ok(()),
    }
}

impl RunObserver<'_> {
    /// Writes the results of the last evaluation for each pair, thumb and prompt.
    pub(super) fn write_outcomes(&self) -> Result<(), SweepError> {
        self.directory.write_pairs(&self.outcomes)?;
        self.directory.write_thumbs(&self.thumbs)?;
        if self.evaluation.is_some_and(|evaluation| evaluation.generations.is_some()) {
            self.directory.write_generations(&self.generations)?;
        }
        if self.evaluation.is_some_and(|evaluation| evaluation.capabilities.is_some()) {
            self.directory.write_questions(&self.questions)?;
        }
        Ok(())
    }

    /// Samples completions if they are due after `step`, and returns their means.
    fn sample(
        &self,
        step: u64,
        total: u64,
        policy: &Policy<'_>,
        cache: &ReferenceCache,
    ) -> Result<BTreeMap<String, f64>, TrainError> {
        let Some((sets, every)) = self.evaluation.zip(self.sample_every) else { return Ok(BTreeMap::new()) };
        let is_due = step == total || step.is_multiple_of(every);
        let Some(prompts) = sets.generations.as_ref().filter(|_| is_due) else {
            return Ok(BTreeMap::new());
        };
        let PolicySamples { values, samples } =
            prompts.sample(policy, step, cache, self.seed, sets.utility)?;
        self.directory.append_samples(&samples)?;
        Ok(values)
    }
}
