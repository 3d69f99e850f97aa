//! Preparation of a plan's datasets.

use prospect_data::Manifest;
use prospect_runs::Claims;

use super::waiting::Waiting;
use crate::{
    SweepError,
    plan::{PlannedDataset, SweepPlan},
};

/// Prepares missing datasets, waits for those that other processes prepare, and returns all
/// manifests.
pub(super) fn prepare_all(plan: &SweepPlan, claims: &Claims) -> Result<Vec<Manifest>, SweepError> {
    let mut waiting = Waiting::default();
    loop {
        let manifests = plan.datasets.iter().map(|dataset| prepare_missing(dataset, claims));
        let manifests = manifests.collect::<Result<Vec<_>, _>>()?;
        if let Some(all) = manifests.into_iter().collect() {
            return Ok(all);
        }
        waiting.wait(claims, "data");
    }
}

/// Prepares a dataset if it is missing; returns None if another process is preparing it.
fn prepare_missing(dataset: &PlannedDataset, claims: &Claims) -> Result<Option<Manifest>, SweepError> {
    if let Some(manifest) = dataset.prepared()? {
        return Ok(Some(manifest));
    }
    let name = format!("data-{}", dataset.path.file_name().unwrap_or_default().to_string_lossy());
    let Some(_claim) = claims.take(&name)? else { return Ok(None) };
    match dataset.prepared()? {
        Some(manifest) => Ok(Some(manifest)),
        None => Ok(Some(dataset.prepare_in(&dataset.path)?)),
    }
}
