//! Estimated costs.

use std::time::Duration;

use prospect_core::sample::median;
use serde::Serialize;

use super::RunStart;

/// Cost of runs that share model, start, batch shape and the work that their objectives ask of the
/// model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunGroupCost {
    /// Objectives of the runs. The first one was measured.
    pub objectives: Vec<String>,
    /// The model.
    pub model: String,
    /// Weights that the runs start from.
    pub start: RunStart,
    /// Number of runs.
    pub runs: usize,
    /// Optimizer steps of all runs.
    pub steps: u64,
    /// Steps among them whose reference log-probabilities an earlier run has cached.
    pub cached_steps: u64,
    /// Seconds of each measured step, ascending.
    pub step_seconds: Vec<f64>,
    /// Seconds of measured steps with cached reference log-probabilities, ascending; empty for
    /// objectives without a reference.
    pub cached_step_seconds: Vec<f64>,
    /// Seconds to score held-out feedback and to answer capability tests, of all runs together.
    pub evaluation: f64,
    /// Seconds to continue held-out prompts, of all runs together.
    pub generation: f64,
    /// Seconds to read the data, of all runs together, and to load the model.
    pub reading: f64,
    /// Peak memory of the process during the measurement, in bytes, where the system reports it.
    pub memory: Option<u64>,
}

impl RunGroupCost {
    /// Returns the median seconds of a step.
    pub fn median_step(&self) -> f64 {
        median(self.step_seconds.iter().copied()).unwrap_or(0.0)
    }

    /// Returns the median seconds of a step with cached reference log-probabilities.
    pub fn median_cached_step(&self) -> f64 {
        median(self.cached_step_seconds.iter().copied()).unwrap_or_else(|| self.median_step())
    }

    /// Returns the seconds of all runs, one at a time, by the median, the fastest and the slowest
    /// step.
    pub fn seconds(&self) -> [f64; 3] {
        let total = |step: f64, cached_step: f64| {
            (self.steps - self.cached_steps) as f64 * step
                + self.cached_steps as f64 * cached_step
                + self.evaluation
                + self.generation
                + self.reading
        };
        let extreme = |end: fn(&[f64]) -> Option<&f64>| {
            let step = end(&self.step_seconds).copied().unwrap_or(0.0);
            total(step, end(&self.cached_step_seconds).copied().unwrap_or(step))
        };
        let median = total(self.median_step(), self.median_cached_step());
        [median, extreme(<[f64]>::first), extreme(<[f64]>::last)]
    }
}

/// Cost of a sweep's pending runs.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepCost {
    /// Costs of groups of similar runs, in order of execution.
    pub groups: Vec<RunGroupCost>,
    /// Seconds of the shared SFT stages.
    pub(super) stage_seconds: f64,
    /// Seconds of every run, in order of execution.
    pub(super) run_seconds: Vec<f64>,
}

impl SweepCost {
    /// Returns the number of pending runs.
    pub fn runs(&self) -> usize {
        self.run_seconds.len()
    }

    /// Returns the seconds of all runs, one at a time, by the median, the fastest and the slowest
    /// steps.
    pub fn seconds(&self) -> [f64; 3] {
        [0, 1, 2].map(|bound| self.groups.iter().map(|group| group.seconds()[bound]).sum())
    }

    /// Returns the number of runs that finish within `limit`, one at a time.
    pub fn runs_within(&self, limit: Duration) -> usize {
        let mut elapsed = self.stage_seconds;
        let finishes = |seconds: &&f64| {
            elapsed += **seconds;
            elapsed <= limit.as_secs_f64()
        };
        self.run_seconds.iter().take_while(finishes).count()
    }
}
