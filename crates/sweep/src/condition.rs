//! How a run stands.

use std::fmt;

use prospect_runs::{State, Status};
use serde::Serialize;

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// All of its files are there.
    Finished,
    /// It has begun, and a process works on it.
    Running,
    /// It has begun, and no process works on it.
    Interrupted,
    /// It ended with an error.
    Failed,
    /// It was ended before its last step, as the experiment asks for.
    Stopped,
    /// Nothing of it is there.
    ToDo,
}

impl RunState {
    pub(crate) fn of(status: Option<&Status>, worked_on: bool) -> Self {
        match status.map(|status| status.state) {
            None => Self::ToDo,
            Some(State::Running) if worked_on => Self::Running,
            Some(State::Running) => Self::Interrupted,
            Some(State::Finished) => Self::Finished,
            Some(State::Failed) => Self::Failed,
            Some(State::Stopped) => Self::Stopped,
        }
    }

    /// Whether a call of the sweep goes on with such a run.
    pub(crate) fn is_left(self) -> bool {
        matches!(self, Self::Running | Self::Interrupted | Self::ToDo)
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Finished => "finished",
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::ToDo => "to do",
        })
    }
}
