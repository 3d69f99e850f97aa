//! Commands that rank 0 sends to the other ranks.

use prospect_dist::{Collective, CollectiveError};
use serde::{Deserialize, Serialize};

use super::worker::has_diverged;
use crate::SweepError;

/// Next step of rank 0, sent to the other ranks. Stages and runs are named by id.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum RankCommand {
    TrainStage(String),
    TrainRun(String),
    /// No further command follows.
    Exit,
}

impl RankCommand {
    /// Sends the command to all other ranks.
    pub(super) fn broadcast(&self, group: &dyn Collective) -> Result<(), SweepError> {
        group.broadcast(serde_json::to_vec(self).map_err(std::io::Error::from)?)?;
        Ok(())
    }

    /// Receives the next command of rank 0.
    pub(super) fn receive(group: &dyn Collective) -> Result<Self, SweepError> {
        let message = group.broadcast(Vec::new())?;
        serde_json::from_slice(&message).map_err(|_| CollectiveError::OutOfStep { rank: 0 }.into())
    }
}

/// Returns true if every rank sees the error at the same step, so that all can continue with the
/// next run. Any other error ends all ranks.
pub(super) fn is_seen_by_all_ranks(error: &SweepError) -> bool {
    has_diverged(error)
}
