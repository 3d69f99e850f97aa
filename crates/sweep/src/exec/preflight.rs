//! Checks after datasets are prepared and before any weights are loaded.
//!
//! Loading a large model takes minutes. Whatever the manifests of the datasets, the model's
//! `config.json` and the file system tell about a run is checked first, for all pending runs:
//!
//! * a run that cannot train fails at once, and the others go on ([`fail_unusable_runs`]);
//! * a problem of an SFT stage or of the output folder is an error of the sweep
//!   ([`check_stages_and_folder`]).

mod data;
mod disk;
mod lengths;
mod questions;

use prospect_data::Manifest;
use prospect_runs::{Claims, SweepDir, describe_settings};

pub(crate) use self::disk::bytes_to_write;
use self::{data::DataCheck, lengths::LengthCheck, questions::QuestionCheck};
use super::{Execution, PendingRuns};
use crate::{
    SweepError,
    plan::{ResolvedRun, SftStage, SweepPlan},
};

/// Checks the pending SFT stages, and that the output folder is writable and has enough free space.
pub(super) fn check_stages_and_folder(
    plan: &SweepPlan,
    sweep: &SweepDir,
    how: &Execution,
    manifests: &[Manifest],
) -> Result<(), SweepError> {
    let pending = PendingRuns::new(plan, &plan.expected_runs(), sweep, how);
    if pending.runs.is_empty() {
        return Ok(());
    }
    let mut checks = RunChecks::new(plan, manifests);
    for sft in &pending.stages {
        if let Some(problem) = checks.stage_problem(sft)? {
            return Err(SweepError::Preflight(format!("SFT stage {}: {problem}", sft.id)));
        }
    }
    disk::check_writable(sweep.path())?;
    disk::check_free_space(plan, sweep.path(), &pending, how.jobs.most(), manifests)
}

/// Marks the pending runs that cannot train as failed, removes them from `pending`, and returns
/// their number.
///
/// A run that another process holds is left to that process, which makes the same checks.
pub(super) fn fail_unusable_runs(
    plan: &SweepPlan,
    sweep: &SweepDir,
    pending: &mut PendingRuns<'_>,
    manifests: &[Manifest],
    claims: &Claims,
) -> Result<usize, SweepError> {
    let mut checks = RunChecks::new(plan, manifests);
    let mut usable = Vec::new();
    let mut failed = 0;
    for run in std::mem::take(&mut pending.runs) {
        let problem = checks.run_problem(run)?;
        let Some((problem, _claim)) = problem.zip(claims.take(&run.id)?) else {
            usable.push(run);
            continue;
        };
        let directory = sweep.run(&run.id);
        directory.invalidate_cache();
        if directory.is_finished() || directory.is_stopped() {
            usable.push(run);
            continue;
        }
        tracing::info!("failed: {}, seed {}: {problem}", describe_settings(&run.settings), run.seed);
        directory.fail(&SweepError::Preflight(problem), 0.0)?;
        failed += 1;
    }
    let is_needed =
        |sft: &&SftStage| usable.iter().any(|run| run.sft.is_some_and(|index| plan.sft[index].id == sft.id));
    pending.stages.retain(is_needed);
    pending.runs = usable;
    Ok(failed)
}

/// The checks of runs and stages, with caches of what runs share.
struct RunChecks<'a> {
    data: DataCheck<'a>,
    lengths: LengthCheck<'a>,
    questions: QuestionCheck<'a>,
}

impl<'a> RunChecks<'a> {
    fn new(plan: &'a SweepPlan, manifests: &'a [Manifest]) -> Self {
        Self {
            data: DataCheck::new(plan, manifests),
            lengths: LengthCheck::new(plan),
            questions: QuestionCheck::new(plan),
        }
    }

    /// Returns the reason why a run cannot train, if any.
    fn run_problem(&mut self, run: &ResolvedRun) -> Result<Option<String>, SweepError> {
        if let Some(problem) = self.data.training_problem(run.dataset, &run.train.objective)? {
            return Ok(Some(problem));
        }
        if let Some(problem) = self.data.held_out_problem(run.dataset) {
            return Ok(Some(problem));
        }
        if let Some(problem) = self.questions.problem(run.model)? {
            return Ok(Some(problem));
        }
        self.lengths.problem("train", run.model, run.dataset, &run.train)
    }

    /// Returns the reason why a stage cannot train, if any. Stages are not evaluated.
    fn stage_problem(&mut self, sft: &SftStage) -> Result<Option<String>, SweepError> {
        if let Some(problem) = self.data.training_problem(sft.dataset, &sft.settings.objective)? {
            return Ok(Some(problem));
        }
        self.lengths.problem("sft", sft.model, sft.dataset, &sft.settings)
    }
}

#[cfg(test)]
mod tests;
