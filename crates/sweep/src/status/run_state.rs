//! State of a run.

use prospect_runs::{State, Status};
use serde::Serialize;
use strum::Display;

/// State of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "lowercase")]
pub enum RunState {
    /// All of its files are written.
    Finished,
    /// Started, and a process is working on it.
    Running,
    /// Started, and no process is working on it.
    Interrupted,
    /// Ended with an error.
    Failed,
    /// Ended by early stopping.
    Stopped,
    /// Not started.
    #[strum(serialize = "to do")]
    ToDo,
}

impl RunState {
    /// Combines the status file of a run with whether a process holds a claim on it.
    pub(crate) fn from_status(status: Option<&Status>, is_claimed: bool) -> Self {
        match status.map(|status| status.state) {
            None => Self::ToDo,
            Some(State::Running) if is_claimed => Self::Running,
            Some(State::Running) => Self::Interrupted,
            Some(State::Finished) => Self::Finished,
            Some(State::Failed) => Self::Failed,
            Some(State::Stopped) => Self::Stopped,
        }
    }

    /// Returns true if a call of the sweep starts or resumes such a run.
    pub(crate) fn is_unfinished(self) -> bool {
        matches!(self, Self::Running | Self::Interrupted | Self::ToDo)
    }
}
