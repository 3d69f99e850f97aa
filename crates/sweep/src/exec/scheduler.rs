//! Scheduling of pending runs among processes.
//!
//! Each process claims a stage or a run before it works on it, and skips what another process
//! holds.

use std::{collections::BTreeSet, time::Instant};

use prospect_core::progress::Progress;
use prospect_data::Manifest;
use prospect_runs::{Claims, RunDir, Status, SweepDir};
use prospect_train::{EncodingCache, Settings};

use super::{
    Execution, ExecutionSummary, PendingRuns, WaitPolicy,
    parallel::parallel_map,
    preflight, reference_cache,
    waiting::Waiting,
    worker::{LoadedStart, RunEnd, Worker, has_diverged},
};
use crate::{
    SweepError,
    estimate::completions_per_epoch,
    plan::{ResolvedRun, SweepPlan},
};

/// Trains the pending stages and runs of `plan`, together with other processes.
pub(super) fn run_pending(
    plan: &SweepPlan,
    sweep: &SweepDir,
    how: &Execution,
    manifests: &[Manifest],
    claims: &Claims,
) -> Result<ExecutionSummary, SweepError> {
    let mut pending = PendingRuns::new(plan, &plan.runs.iter().collect::<Vec<_>>(), sweep, how);
    let mut summary = ExecutionSummary {
        runs: plan.runs.len(),
        already: pending.already,
        failed_earlier: pending.failed_earlier,
        left: pending.left,
        ..ExecutionSummary::default()
    };
    summary.failed += preflight::fail_unusable_runs(plan, sweep, &mut pending, manifests, claims)?;
    let steps = |settings: &Settings, dataset: usize| {
        settings.steps(completions_per_epoch(manifests[dataset].train, &settings.objective))
    };
    let stage_steps = pending.stages.iter().map(|sft| steps(&sft.settings, sft.dataset));
    let total = stage_steps.chain(pending.runs.iter().map(|run| steps(&run.train, run.dataset))).sum();
    let mut worker = Worker {
        plan,
        sweep,
        jobs: 1,
        progress: &Progress::new(&plan.name, "steps", total),
        member: &how.member,
        cache: &reference_cache(sweep),
        encodings: &EncodingCache::default(),
        claims,
    };
    let loaded = LoadedStart::default();
    let in_time = || how.until.is_none_or(|until| Instant::now() < until);
    let has_start = |run: &ResolvedRun| run.sft.is_none_or(|sft| sweep.run(&plan.sft[sft].id).is_finished());
    let mut open: Vec<OpenRun<'_>> = pending.runs.iter().map(|run| OpenRun::new(run, sweep)).collect();
    let mut waiting = Waiting::default();
    let mut chosen = None;
    while !open.is_empty() {
        let stages: BTreeSet<usize> =
            open.iter().filter(|open| !has_start(open.run)).filter_map(|open| open.run.sft).collect();
        let before = open.len();
        for sft in stages {
            match worker.train_stage(&plan.sft[sft]) {
                Err(error) if has_diverged(&error) => {
                    open = fail_runs_of(&worker, sft, &error, open, &mut summary)?;
                }
                result => result?,
            }
        }
        let (ready, mut remaining): (Vec<_>, Vec<_>) =
            open.into_iter().partition(|open| has_start(open.run) || !in_time());
        let is_blocked = !remaining.is_empty();
        if chosen.is_none() && !ready.is_empty() && in_time() {
            let runs: Vec<&ResolvedRun> = ready.iter().map(|open| open.run).collect();
            let steps = runs.iter().map(|run| steps(&run.train, run.dataset)).sum();
            worker.jobs = *chosen.insert(worker.choose_jobs(how.jobs, &runs, steps, &loaded)?);
        }
        let ends = parallel_map(worker.jobs, &ready, |open| {
            if in_time() {
                worker.train_run(open.run, &loaded, |run| open.has_ended(run))
            } else {
                Ok(RunEnd::NotStarted)
            }
        })?;
        for (open, end) in ready.into_iter().zip(ends) {
            if summary.count(&end, &open, sweep) {
                if matches!(end, RunEnd::HeldByOther) {
                    worker.progress.advance(steps(&open.run.train, open.run.dataset), "by another process");
                }
            } else {
                remaining.push(open);
            }
        }
        open = remaining;
        if open.len() < before {
            waiting = Waiting::default();
        } else if how.others == WaitPolicy::Leave && !is_blocked && waiting.elapsed() > claims.patience() {
            summary.left += open.len();
            break;
        } else {
            waiting.wait(claims, "runs");
        }
    }
    Ok(summary)
}

/// Marks the runs of a stage that diverged as failed, and returns the others.
fn fail_runs_of<'a>(
    worker: &Worker<'_>,
    sft: usize,
    error: &SweepError,
    open: Vec<OpenRun<'a>>,
    summary: &mut ExecutionSummary,
) -> Result<Vec<OpenRun<'a>>, SweepError> {
    let error = SweepError::Stage { stage: worker.plan.sft[sft].id.clone(), reason: error.to_string() };
    let mut others = Vec::new();
    for open in open {
        let is_of_stage = open.run.sft == Some(sft);
        if !is_of_stage
            || !summary.count(
                &worker.fail_run(open.run, &error, |run| open.has_ended(run))?,
                &open,
                worker.sweep,
            )
        {
            others.push(open);
        }
    }
    Ok(others)
}

impl ExecutionSummary {
    /// Counts a run that has ended or that this call will not start. Returns false if another
    /// process is still working on it.
    fn count(&mut self, end: &RunEnd, open: &OpenRun<'_>, sweep: &SweepDir) -> bool {
        let count = match end {
            RunEnd::Finished => &mut self.finished,
            RunEnd::Stopped => &mut self.stopped,
            RunEnd::Failed => &mut self.failed,
            RunEnd::NotStarted => &mut self.left,
            RunEnd::HeldByOther => {
                let directory = sweep.run(&open.run.id);
                if !open.has_ended(&directory) {
                    return false;
                }
                if directory.has_failed() { &mut self.failed } else { &mut self.elsewhere }
            }
        };
        *count += 1;
        true
    }
}

/// A run that has not ended yet.
struct OpenRun<'a> {
    run: &'a ResolvedRun,
    /// Status of an earlier failure, if the run is retried.
    failure: Option<Status>,
}

impl<'a> OpenRun<'a> {
    fn new(run: &'a ResolvedRun, sweep: &SweepDir) -> Self {
        let directory = sweep.run(&run.id);
        let failure = if directory.has_failed() { directory.status().ok().flatten() } else { None };
        Self { run, failure }
    }

    /// Returns true if the run has ended since this call began.
    fn has_ended(&self, directory: &RunDir) -> bool {
        directory.is_finished()
            || directory.is_stopped()
            || directory.has_failed() && directory.status().ok().flatten() != self.failure
    }
}
