//! Choice of the number of parallel runs: `jobs.json`.

use serde::{Deserialize, Serialize};

/// `jobs.json`: the number of parallel runs that the last call chose, and why. It affects time and
/// memory, never results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobsRecord {
    /// Runs that train at the same time.
    pub jobs: usize,
    /// Runs that were pending.
    pub runs: usize,
    /// Threads of the process.
    pub threads: usize,
    /// Measurements; empty if the runs were too short for them.
    pub measured: Vec<RoundTime>,
    /// Reason in words.
    pub reason: String,
}

/// Time of one optimizer step in each of several parallel runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RoundTime {
    /// Parallel runs.
    pub jobs: usize,
    /// Seconds until each of them has taken a step.
    pub seconds: f64,
}

impl RoundTime {
    /// Returns the seconds per run and step.
    pub fn per_run(&self) -> f64 {
        self.seconds / self.jobs as f64
    }
}
