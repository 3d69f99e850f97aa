//! Execution of a plan.

use std::{collections::BTreeSet, path::Path, time::Instant};

use prospect_dist::ProcessGroup;
use prospect_runs::SweepDir;
use prospect_train::ReferenceCache;

use crate::{
    SweepError,
    plan::{ResolvedRun, RunFilter, SweepPlan},
    search::{SearchPlan, TrialId},
};

mod datasets;
mod jobs;
mod observer;
mod parallel;
mod pending;
mod preflight;
mod rank_command;
mod rank_worker;
mod scheduler;
mod training;
mod waiting;
mod worker;

pub use jobs::Jobs;
pub(crate) use pending::PendingRuns;
pub(crate) use preflight::bytes_to_write;
use rank_command::RankCommand;
pub(crate) use worker::load_start;

/// Options of [`execute`]. None of them affects the results of a run.
#[derive(Debug, Clone, Default)]
pub struct Execution {
    /// Number of runs to train at the same time, over one copy of their frozen weights.
    pub jobs: Jobs,
    /// Runs to train.
    pub only: RunFilter,
    /// Time after which no more runs are started.
    pub until: Option<Instant>,
    /// Retry runs that failed in an earlier call.
    pub retry_failed: bool,
    /// Behaviour when other processes hold all remaining runs.
    pub others: WaitPolicy,
    /// Process group that trains each run together. Rank 0 decides, evaluates and writes for all.
    pub member: ProcessGroup,
}

/// Behaviour when other processes hold all remaining runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WaitPolicy {
    /// Wait until the runs have ended, and take over those of a process that died.
    #[default]
    Wait,
    /// Leave once it is clear that those processes are alive. The process that finishes the last
    /// run concludes the sweep.
    Leave,
}

/// Counts of runs after a call of [`execute`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExecutionSummary {
    /// All runs; with a search, those of the rungs reached so far.
    pub runs: usize,
    /// Runs finished by this call.
    pub finished: usize,
    /// Runs stopped early by this call.
    pub stopped: usize,
    /// Runs that had finished or stopped before this call.
    pub already: usize,
    /// Runs that other processes finished or stopped during this call.
    pub elsewhere: usize,
    /// Runs that failed during this call; see their `status.json` and `error.log`.
    pub failed: usize,
    /// Runs that had failed before and were not retried.
    pub failed_earlier: usize,
    /// Runs not started: not selected, out of time, or held by other processes.
    pub left: usize,
}

impl ExecutionSummary {
    fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.finished += other.finished;
        self.stopped += other.stopped;
        self.already += other.already;
        self.elsewhere += other.elsewhere;
        self.failed += other.failed;
        self.failed_earlier += other.failed_earlier;
        self.left += other.left;
    }
}

/// Executes the missing parts of `plan` in `sweep`: datasets, SFT stages and runs.
///
/// Other processes may execute the same plan at the same time. A failed run does not stop the
/// others. `commands` are recorded as the commands that reproduce the sweep.
pub fn execute(
    plan: &SweepPlan,
    sweep: &SweepDir,
    how: &Execution,
    commands: &[String],
) -> Result<ExecutionSummary, SweepError> {
    let group = &*how.member.collective;
    if group.world_size() > 1 && how.jobs.most() > 1 {
        return Err(SweepError::Setting(
            "--jobs trains several runs at once, and ranks train one run together: leave one of them out"
                .to_owned(),
        ));
    }
    // Ranks started with other settings would train other runs.
    group.check_equal(plan.fingerprint()?.into_bytes())?;
    let claims = sweep.claims();
    if !how.member.is_main_process() {
        rank_worker::worker_loop(plan, sweep, how, &claims)?;
        return Ok(ExecutionSummary::default());
    }
    rank_worker::warn_about_idle_ranks(plan, group);
    rank_worker::warn_about_adapters(plan, how.member.zero());
    let manifests = datasets::prepare_all(plan, &claims)?;
    preflight::check_stages_and_folder(plan, sweep, how, &manifests)?;
    let recorded: Result<Vec<_>, _> = manifests.iter().map(serde_json::to_value).collect();
    let recorded = recorded.map_err(std::io::Error::from)?;
    let record = |rungs: &[Vec<ResolvedRun>], winners: &[ResolvedRun]| -> Result<(), SweepError> {
        Ok(sweep.write_experiment(&plan.record(commands, &recorded, rungs, winners)?)?)
    };
    let mut summary = ExecutionSummary::default();
    let mut rungs = vec![plan.runs.clone()];
    for rung in 0.. {
        record(&rungs, &[])?;
        let runs = &rungs[rung];
        let rung_plan = SweepPlan { runs: runs.clone(), ..plan.clone() };
        // A process that left now would miss the runs of the next rung, or those of the winners.
        let others = if plan.search.is_some() { WaitPolicy::Wait } else { how.others };
        let waiting = Execution { others, ..how.clone() };
        summary.add(scheduler::run_pending(&rung_plan, sweep, &waiting, &manifests, &claims)?);
        let Some(search) = plan.search else { break };
        let winners = winners(search, sweep, runs, rung)?;
        match plan.later_rungs.get(rung) {
            None => {
                let runs = runs_of_trials(&plan.retrained, &winners);
                record(&rungs, &runs)?;
                let winners_plan = SweepPlan { runs, ..plan.clone() };
                summary.add(scheduler::run_pending(&winners_plan, sweep, how, &manifests, &claims)?);
                break;
            }
            Some(_) if winners.is_empty() => break,
            Some(next) => {
                let next = runs_of_trials(next, &winners);
                rungs.push(next);
            }
        }
    }
    RankCommand::Exit.broadcast(group)?;
    Ok(summary)
}

/// Prepares the missing datasets of `plan`, or waits for processes that prepare them.
pub fn prepare_datasets(plan: &SweepPlan, sweep: &SweepDir) -> Result<(), SweepError> {
    datasets::prepare_all(plan, &sweep.claims()).map(drop)
}

/// Returns the number of runs that [`execute`] would start; with a search, in the first unfinished
/// rung, or of the winners.
pub fn count_pending(plan: &SweepPlan, sweep: &SweepDir, how: &Execution) -> Result<usize, SweepError> {
    let mut runs = plan.runs.clone();
    for rung in 0.. {
        let pending = PendingRuns::new(plan, &runs.iter().collect::<Vec<_>>(), sweep, how).runs.len();
        let (Some(search), 0) = (plan.search, pending) else { return Ok(pending) };
        let winners = winners(search, sweep, &runs, rung)?;
        let Some(next) = plan.later_rungs.get(rung) else {
            let runs = runs_of_trials(&plan.retrained, &winners);
            return Ok(PendingRuns::new(plan, &runs.iter().collect::<Vec<_>>(), sweep, how).runs.len());
        };
        runs = runs_of_trials(next, &winners);
    }
    Ok(0)
}

/// Writes `experiment.json` if it is missing, so that a sweep shows its plan before its first
/// worker starts.
pub fn record_plan(plan: &SweepPlan, sweep: &SweepDir, commands: &[String]) -> Result<(), SweepError> {
    if !sweep.path().join("experiment.json").exists() {
        sweep.write_experiment(&plan.record(commands, &[], std::slice::from_ref(&plan.runs), &[])?)?;
    }
    Ok(())
}

/// Returns the cache of reference log-probabilities, shared by all sweeps of a folder.
fn reference_cache(sweep: &SweepDir) -> ReferenceCache {
    ReferenceCache::new(&sweep.path().parent().unwrap_or(Path::new("")).join(".reference"))
}

fn winners(
    search: SearchPlan,
    sweep: &SweepDir,
    runs: &[ResolvedRun],
    rung: usize,
) -> Result<BTreeSet<TrialId>, SweepError> {
    let trials = runs.iter().filter_map(|run| Some((run.trial?, sweep.run(&run.id))));
    search.winners(trials, rung)
}

fn runs_of_trials(runs: &[ResolvedRun], trials: &BTreeSet<TrialId>) -> Vec<ResolvedRun> {
    runs.iter().filter(|run| run.trial.is_some_and(|trial| trials.contains(&trial))).cloned().collect()
}
