//! Hooks into a training run, and the ways in which a run ends.

use std::ops::ControlFlow;

use prospect_model::Decoder;
use prospect_runs::MetricsRecord;

use crate::{Policy, ReferenceCache, StopReason, TrainError};

/// Callbacks of [`train`](crate::train). The default methods do nothing; `()` observes nothing.
pub trait Observer {
    /// Called before the first step (with `step` 0) and after every step.
    ///
    /// [`ControlFlow::Break`] ends the run on all ranks, before a checkpoint of this step is
    /// written. A resumed run is not observed before its first step.
    fn on_step_end(
        &mut self,
        _step: u64,
        _total: u64,
        _policy: &Policy<'_>,
        _cache: &ReferenceCache,
    ) -> Result<ControlFlow<StopReason>, TrainError> {
        Ok(ControlFlow::Continue(()))
    }

    /// Called with the metrics of every step, before [`on_step_end`](Self::on_step_end).
    fn on_log(&mut self, _record: MetricsRecord) -> Result<(), TrainError> {
        Ok(())
    }
}

impl Observer for () {}

/// A completed run.
#[derive(Debug)]
pub struct TrainedPolicy {
    /// The policy.
    pub policy: Decoder,
    /// Optimizer steps.
    pub steps: u64,
    /// Tokens processed in training steps; a shared prompt counts once.
    pub tokens: u64,
    /// Seconds of work, including work before an interruption.
    pub seconds: f64,
}

/// Outcome of [`train`](crate::train).
#[derive(Debug)]
pub enum TrainOutcome {
    /// All steps were taken.
    Completed(Box<TrainedPolicy>),
    /// The run ended early.
    Stopped(StopReason),
}

impl TrainOutcome {
    /// Returns the policy; a stopped run is an error. For observers that never stop a run.
    pub fn into_policy(self) -> Result<TrainedPolicy, TrainError> {
        match self {
            Self::Completed(trained) => Ok(*trained),
            Self::Stopped(reason) => Err(TrainError::Incomplete(reason)),
        }
    }
}
