//! Runs and stages that remain to be trained.

use prospect_runs::SweepDir;

use crate::{
    Execution,
    plan::{ResolvedRun, SftStage, SweepPlan},
};

/// Stages and runs that a call trains, in order, and counts of the others.
pub(crate) struct PendingRuns<'a> {
    /// Missing stages that pending runs start from.
    pub(crate) stages: Vec<&'a SftStage>,
    pub(crate) runs: Vec<&'a ResolvedRun>,
    /// Number of finished or stopped runs.
    pub(crate) already: usize,
    /// Number of runs that failed earlier and are not retried.
    pub(crate) failed_earlier: usize,
    /// Number of runs that were not selected.
    pub(crate) left: usize,
}

impl<'a> PendingRuns<'a> {
    pub(crate) fn new(
        plan: &'a SweepPlan,
        runs: &[&'a ResolvedRun],
        sweep: &SweepDir,
        how: &Execution,
    ) -> Self {
        let all = runs.len();
        let has_ended = |run: &ResolvedRun| {
            let directory = sweep.run(&run.id);
            directory.is_finished() || directory.is_stopped()
        };
        let missing: Vec<&ResolvedRun> = runs.iter().copied().filter(|run| !has_ended(run)).collect();
        let selected: Vec<&ResolvedRun> =
            missing.iter().copied().filter(|run| how.only.matches(run)).collect();
        let (failed, mut runs): (Vec<&ResolvedRun>, Vec<&ResolvedRun>) =
            selected.iter().partition(|run| !how.retry_failed && sweep.run(&run.id).has_failed());
        // Runs that start from the same weights are adjacent, so that the weights are loaded once.
        runs.sort_by_key(|run| (run.model, run.sft));
        let stages = plan.sft.iter().enumerate().filter(|(index, sft)| {
            !sweep.run(&sft.id).is_finished() && runs.iter().any(|run| run.sft == Some(*index))
        });
        Self {
            stages: stages.map(|(_, sft)| sft).collect(),
            already: all - missing.len(),
            failed_earlier: failed.len(),
            left: missing.len() - selected.len(),
            runs,
        }
    }
}
