//! Checks that run before any weights are loaded.

use prospect_data::Manifest;
use prospect_runs::{Claims, SweepDir};

use super::{Execution, PendingRuns};
use crate::{SweepError, plan::SweepPlan};

pub(super) fn check_environment(
    _plan: &SweepPlan,
    _sweep: &SweepDir,
    _how: &Execution,
    _manifests: &[Manifest],
) -> Result<(), SweepError> {
    Ok(())
}

pub(super) fn fail_unusable_runs(
    _plan: &SweepPlan,
    _sweep: &SweepDir,
    _pending: &mut PendingRuns<'_>,
    _manifests: &[Manifest],
    _claims: &Claims,
) -> Result<usize, SweepError> {
    Ok(0)
}
