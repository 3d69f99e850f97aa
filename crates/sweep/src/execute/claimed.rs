//! How processes share a plan: each claims a dataset, a stage or a run before it works on it, and passes over what another
//! one holds.

use std::{
    collections::BTreeSet,
    thread::sleep,
    time::{Duration, Instant},
};

use prospect_core::progress::{Progress, say};
use prospect_data::{Manifest, prepare, prepared};
use prospect_runs::{Claims, RunDir, Status, SweepDir};
use prospect_train::Settings;

use super::{
    Executed, Execution, Others, Todo, reference_cache,
    side_by_side::side_by_side,
    work::{End, Loaded, Work},
};
use crate::{Plan, Run, SweepError, budget::completions, plan::Dataset};

/// The manifests of all datasets, once all are there.
pub(super) fn datasets(plan: &Plan, claims: &Claims) -> Result<Vec<Manifest>, SweepError> {
    let mut waiting = Waiting::default();
    loop {
        let manifests = plan.datasets.iter().map(|dataset| make(dataset, claims));
        let manifests = manifests.collect::<Result<Vec<_>, _>>()?;
        if let Some(all) = manifests.into_iter().collect() {
            return Ok(all);
        }
        waiting.wait(claims, "data");
    }
}

/// Prepares a dataset that is not there; None if another process is at it.
fn make(dataset: &Dataset, claims: &Claims) -> Result<Option<Manifest>, SweepError> {
    let Dataset { pipeline, path } = dataset;
    if let Some(manifest) = prepared(pipeline, path)? {
        return Ok(Some(manifest));
    }
    let name = format!("data-{}", path.file_name().unwrap_or_default().to_string_lossy());
    let Some(_claim) = claims.take(&name)? else { return Ok(None) };
    match prepared(pipeline, path)? {
        Some(manifest) => Ok(Some(manifest)),
        None => Ok(Some(prepare(pipeline, path)?)),
    }
}

/// Does what is missing of the runs of `plan`.
pub(super) fn work_off(
    plan: &Plan,
    sweep: &SweepDir,
    how: &Execution,
    manifests: &[Manifest],
    claims: &Claims,
) -> Result<Executed, SweepError> {
    let todo = Todo::new(plan, &plan.runs.iter().collect::<Vec<_>>(), sweep, how);
    let steps = |settings: &Settings, dataset: usize| {
        settings.steps(completions(manifests[dataset].train, &settings.objective))
    };
    let of_stages = todo.stages.iter().map(|sft| steps(&sft.settings, sft.dataset));
    let total = of_stages.chain(todo.runs.iter().map(|run| steps(&run.train, run.dataset))).sum();
    let work = Work {
        plan,
        sweep,
        jobs: how.jobs.get(),
        progress: &Progress::new(&plan.name, "steps", total),
        member: &how.member,
        cache: &reference_cache(sweep),
        claims,
    };
    let mut executed = Executed {
        runs: plan.runs.len(),
        already: todo.already,
        failed_earlier: todo.failed_earlier,
        left: todo.left,
        ..Executed::default()
    };
    let loaded = Loaded::default();
    let in_time = || how.until.is_none_or(|until| Instant::now() < until);
    let has_start = |run: &Run| run.sft.is_none_or(|sft| sweep.run(&plan.sft[sft].id).is_finished());
    let mut open: Vec<Open<'_>> = todo.runs.iter().map(|run| Open::new(run, sweep)).collect();
    let mut waiting = Waiting::default();
    while !open.is_empty() {
        let stages: BTreeSet<usize> =
            open.iter().filter(|open| !has_start(open.run)).filter_map(|open| open.run.sft).collect();
        for sft in stages {
            work.stage(&plan.sft[sft])?;
        }
        let (ready, mut later): (Vec<_>, Vec<_>) =
            open.into_iter().partition(|open| has_start(open.run) || !in_time());
        let (before, blocked) = (ready.len() + later.len(), !later.is_empty());
        let ends = side_by_side(work.jobs, &ready, |open| {
            if in_time() { work.run(open.run, &loaded, |run| open.is_over(run)) } else { Ok(End::Left) }
        })?;
        for (open, end) in ready.into_iter().zip(ends) {
            if executed.count(&end, &open, sweep) {
                if matches!(end, End::Elsewhere) {
                    work.progress.advance(steps(&open.run.train, open.run.dataset), "by another process");
                }
            } else {
                later.push(open);
            }
        }
        open = later;
        if open.len() < before {
            waiting = Waiting::default();
        } else if how.others == Others::Leave && !blocked && waiting.so_far() > claims.patience() {
            executed.left += open.len();
            break;
        } else {
            waiting.wait(claims, "runs");
        }
    }
    Ok(executed)
}

impl Executed {
    /// Counts a run that has ended, or will not be begun by this call; false if another process is still at it.
    fn count(&mut self, end: &End, open: &Open<'_>, sweep: &SweepDir) -> bool {
        let count = match end {
            End::Finished => &mut self.finished,
            End::Stopped => &mut self.stopped,
            End::Failed => &mut self.failed,
            End::Left => &mut self.left,
            End::Elsewhere => {
                let directory = sweep.run(&open.run.id);
                if !open.is_over(&directory) {
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
struct Open<'a> {
    run: &'a Run,
    /// How it had failed before, if it is tried again.
    failed: Option<Status>,
}

impl<'a> Open<'a> {
    fn new(run: &'a Run, sweep: &SweepDir) -> Self {
        let directory = sweep.run(&run.id);
        let failed = if directory.has_failed() { directory.status().ok().flatten() } else { None };
        Self { run, failed }
    }

    /// Whether it has ended in the meantime.
    fn is_over(&self, directory: &RunDir) -> bool {
        directory.is_finished()
            || directory.is_stopped()
            || directory.has_failed() && directory.status().ok().flatten() != self.failed
    }
}

/// For how long there has been nothing to do but to wait for others.
#[derive(Default)]
struct Waiting(Option<Instant>);

impl Waiting {
    fn so_far(&self) -> Duration {
        self.0.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn wait(&mut self, claims: &Claims, what: &str) {
        if self.0.is_none() {
            let holders: Vec<String> =
                claims.held().unwrap_or_default().values().map(ToString::to_string).collect();
            let who = if holders.is_empty() { "other processes".to_owned() } else { holders.join(", ") };
            say(format!("waiting for {what} that {who} work on"));
            self.0 = Some(Instant::now());
        }
        sleep(claims.pause());
    }
}
