//! What a run writes while it trains.

use std::ops::ControlFlow;

use prospect_core::progress::Progress;
use prospect_eval::{CorruptedPairs, HeldOut, HeldOutPrompts, Utility};
use prospect_runs::{Claim, Generation, MetricsRecord, MetricsWriter, PairOutcome, RecordKind};
use prospect_train::{Observer, Policy, ReferenceCache, StopReason, TrainError};

use crate::StopFile;

/// What a policy is judged on.
pub(crate) struct Judges<'a> {
    pub(crate) held_out: HeldOut,
    pub(crate) corrupted: Option<CorruptedPairs>,
    pub(crate) generations: Option<HeldOutPrompts<'a>>,
    /// The true utility of what is generated, where the data knows it.
    pub(crate) utility: Option<&'a Utility<'a>>,
}

/// Writes metrics and evaluates at the start, every so many steps, and at the end.
pub(crate) struct RunObserver<'a> {
    pub(crate) metrics: MetricsWriter,
    /// The run is this process's own as long as it holds.
    pub(crate) claim: &'a Claim,
    /// None for stages that are not judged.
    pub(crate) judges: Option<&'a Judges<'a>>,
    pub(crate) every: Option<u64>,
    /// When to end before the last step.
    pub(crate) stop: Option<StopFile>,
    pub(crate) seed: u64,
    pub(crate) progress: &'a Progress,
    pub(crate) label: String,
    /// Of the last evaluation.
    pub(crate) outcomes: Vec<PairOutcome>,
    /// Of the last evaluation.
    pub(crate) generations: Vec<Generation>,
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
        let due = first || last || self.every.is_some_and(|every| step.is_multiple_of(every));
        if let Some(judges) = self.judges.filter(|_| due) {
            let evaluation = judges.held_out.evaluate(policy, first, cache)?;
            let mut values = evaluation.values;
            self.outcomes = evaluation.outcomes;
            if let Some(corrupted) = judges.corrupted.as_ref().filter(|_| last) {
                values.extend(corrupted.evaluate(policy, cache)?);
            }
            if let Some(generations) = judges.generations.as_ref().filter(|_| first || last) {
                let said = generations.generate(policy, self.seed, judges.utility)?;
                values.extend(said.values);
                self.generations = said.generations;
            }
            let accuracy = values.get("eval_rewards/accuracies").copied();
            self.metrics.append(&MetricsRecord { kind: RecordKind::Eval, step, values })?;
            let stop = self.stop.zip(accuracy);
            if let Some(reason) = stop.and_then(|(stop, accuracy)| stop.reason(step, total, accuracy)) {
                return Ok(ControlFlow::Break(StopReason::EarlyStop { step, reason }));
            }
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
