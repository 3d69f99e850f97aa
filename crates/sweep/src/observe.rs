//! What a run writes while it trains.

use prospect_core::progress::Progress;
use prospect_eval::{Evaluation, HeldOut};
use prospect_runs::{Kind, MetricsWriter, PairOutcome, Record};
use prospect_train::{Observer, Policy, ReferenceCache, TrainError};

/// Writes metrics and evaluates at the start, every so many steps, and at the end.
pub(crate) struct RunObserver<'a> {
    pub(crate) metrics: MetricsWriter,
    /// None for stages that are not judged on pairs.
    pub(crate) held_out: Option<&'a HeldOut>,
    pub(crate) every: Option<u64>,
    pub(crate) progress: &'a Progress,
    pub(crate) label: String,
    /// Of the last evaluation.
    pub(crate) outcomes: Vec<PairOutcome>,
}

impl Observer for RunObserver<'_> {
    fn after(
        &mut self,
        step: u64,
        total: u64,
        policy: &Policy<'_>,
        cache: &ReferenceCache,
    ) -> Result<(), TrainError> {
        let due = step == 0 || step == total || self.every.is_some_and(|every| step.is_multiple_of(every));
        if let Some(held_out) = self.held_out.filter(|_| due) {
            let Evaluation { values, outcomes } = held_out.evaluate(policy, step == 0, cache)?;
            self.metrics.append(&Record { kind: Kind::Eval, step, values })?;
            self.outcomes = outcomes;
        }
        if step > 0 {
            self.progress.advance(1, &self.label);
        }
        Ok(())
    }

    fn record(&mut self, record: Record) -> Result<(), TrainError> {
        Ok(self.metrics.append(&record)?)
    }
}
