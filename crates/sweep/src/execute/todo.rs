//! What of a plan is to be done.

use prospect_runs::SweepDir;

use crate::{Execution, Plan, Run, plan::Sft};

/// What of a plan is to be done, in the order in which it is, and how many runs are not.
pub(crate) struct Todo<'a> {
    /// Stages that runs wait for.
    pub(crate) stages: Vec<&'a Sft>,
    pub(crate) runs: Vec<&'a Run>,
    /// Runs that are finished or stopped.
    pub(crate) already: usize,
    /// Runs that failed earlier and are not tried again.
    pub(crate) failed_earlier: usize,
    /// Runs that were not asked for.
    pub(crate) left: usize,
}

impl<'a> Todo<'a> {
    pub(crate) fn new(plan: &'a Plan, runs: &[&'a Run], sweep: &SweepDir, how: &Execution) -> Self {
        let all = runs.len();
        let is_over = |run: &Run| {
            let directory = sweep.run(&run.id);
            directory.is_finished() || directory.is_stopped()
        };
        let missing: Vec<&Run> = runs.iter().copied().filter(|run| !is_over(run)).collect();
        let asked: Vec<&Run> = missing.iter().copied().filter(|run| how.only.takes(run)).collect();
        let (failed, mut runs): (Vec<&Run>, Vec<&Run>) =
            asked.iter().partition(|run| !how.retry_failed && sweep.run(&run.id).has_failed());
        // Runs that start from the same weights follow each other, so that these are loaded once.
        runs.sort_by_key(|run| (run.model, run.sft));
        let stages = plan.sft.iter().enumerate().filter(|(index, sft)| {
            !sweep.run(&sft.id).is_finished() && runs.iter().any(|run| run.sft == Some(*index))
        });
        Self {
            stages: stages.map(|(_, sft)| sft).collect(),
            already: all - missing.len(),
            failed_earlier: failed.len(),
            left: missing.len() - asked.len(),
            runs,
        }
    }
}
