//! Does what is missing of a plan.

use std::{collections::BTreeSet, num::NonZeroUsize, path::Path, time::Instant};

use prospect_dist::ProcessGroup;
use prospect_runs::SweepDir;
use prospect_train::ReferenceCache;

use crate::{Only, Plan, Run, SweepError, search::Trial};

mod claimed;
mod side_by_side;
mod todo;
mod together;
mod training;
mod work;

use claimed::{datasets, work_off};
pub(crate) use todo::Todo;
use together::Task;
pub(crate) use work::start;

/// What a call of [`execute`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Executed {
    /// Runs there are; of a search, in the rungs that it has come to.
    pub runs: usize,
    /// Runs finished by this call.
    pub finished: usize,
    /// Runs that were ended before their last step, as the experiment asks for, by this call.
    pub stopped: usize,
    /// Runs that were finished or stopped already.
    pub already: usize,
    /// Runs that other processes finished or stopped in the meantime.
    pub elsewhere: usize,
    /// Runs that ended with an error, in this call or in the meantime; their `status.json` and `error.log` say which.
    pub failed: usize,
    /// Runs that had failed before and were not tried again.
    pub failed_earlier: usize,
    /// Runs that were not begun, because they were not asked for or time was up, or that other processes are at.
    pub left: usize,
}

impl Executed {
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

/// How to go about a plan. Nothing of it has any influence on the results of a run.
#[derive(Debug, Clone)]
pub struct Execution {
    /// Runs that train side by side, over one copy of the weights that they start from.
    pub jobs: NonZeroUsize,
    /// The runs to do.
    pub only: Only,
    /// When to begin no more runs.
    pub until: Option<Instant>,
    /// Whether runs that failed in an earlier call are tried again.
    pub retry_failed: bool,
    /// What to do when others are at all that is left.
    pub others: Others,
    /// This process's place in the group that trains each run together. Rank 0 decides, evaluates and writes for all.
    pub member: ProcessGroup,
}

impl Default for Execution {
    fn default() -> Self {
        Self {
            jobs: NonZeroUsize::MIN,
            only: Only::default(),
            until: None,
            retry_failed: false,
            others: Others::default(),
            member: ProcessGroup::default(),
        }
    }
}

/// What to do when other processes are at all runs that are left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Others {
    /// Wait until the runs have ended, or take over those of a process that is gone.
    #[default]
    Wait,
    /// Leave, once it is known that those processes live: whoever takes the last run ends the sweep.
    Leave,
}

/// Does what is missing of `plan` in `sweep`, together with other processes that do the same. `commands` reproduce it. A run
/// that fails does not stop the others.
pub fn execute(
    plan: &Plan,
    sweep: &SweepDir,
    how: &Execution,
    commands: &[String],
) -> Result<Executed, SweepError> {
    let group = &*how.member.collective;
    if group.world_size() > 1 && how.jobs > NonZeroUsize::MIN {
        return Err(SweepError::Setting(
            "--jobs trains several runs side by side, and ranks train one run together: leave one of them out"
                .to_owned(),
        ));
    }
    // Ranks that were started otherwise would do other runs.
    group.check_equal(plan.fingerprint()?.into_bytes())?;
    let claims = sweep.claims();
    if !how.member.is_main_process() {
        together::take_part(plan, sweep, how, &claims)?;
        return Ok(Executed::default());
    }
    together::tell_of_idle_ranks(plan, group);
    let manifests = datasets(plan, &claims)?;
    let recorded: Result<Vec<_>, _> = manifests.iter().map(serde_json::to_value).collect();
    let recorded = recorded.map_err(std::io::Error::from)?;
    let record = |rungs: &[Vec<Run>], won: &[Run]| -> Result<(), SweepError> {
        Ok(sweep.write_experiment(&plan.record(commands, &recorded, rungs, won)?)?)
    };
    let mut executed = Executed::default();
    let mut rungs = vec![plan.runs.clone()];
    for rung in 0.. {
        record(&rungs, &[])?;
        let runs = &rungs[rung];
        let of_rung = Plan { runs: runs.clone(), ..plan.clone() };
        // Runs of a later rung are more work to come.
        let others = if plan.later.len() > rung { Others::Wait } else { how.others };
        executed.add(work_off(&of_rung, sweep, &Execution { others, ..how.clone() }, &manifests, &claims)?);
        let Some(search) = plan.search else { break };
        let winners = search.winners(sweep, runs, rung)?;
        match plan.later.get(rung) {
            None => {
                record(&rungs, &of_trials(runs, &winners))?;
                break;
            }
            Some(_) if winners.is_empty() => break,
            Some(next) => {
                let next = of_trials(next, &winners);
                rungs.push(next);
            }
        }
    }
    Task::End.tell(group)?;
    Ok(executed)
}

/// Where the log-probs of references are kept: beside the sweeps of a folder, for all of them.
fn reference_cache(sweep: &SweepDir) -> ReferenceCache {
    ReferenceCache::new(&sweep.path().parent().unwrap_or(Path::new("")).join(".reference"))
}

fn of_trials(runs: &[Run], trials: &BTreeSet<Trial>) -> Vec<Run> {
    runs.iter().filter(|run| run.trial.is_some_and(|trial| trials.contains(&trial))).cloned().collect()
}

/// How many runs [`execute`] would begin; of a search, in the first rung that is not over.
pub fn left(plan: &Plan, sweep: &SweepDir, how: &Execution) -> Result<usize, SweepError> {
    let mut runs = plan.runs.clone();
    for rung in 0.. {
        let left = Todo::new(plan, &runs.iter().collect::<Vec<_>>(), sweep, how).runs.len();
        let (Some(search), Some(next), 0) = (plan.search, plan.later.get(rung), left) else {
            return Ok(left);
        };
        runs = of_trials(next, &search.winners(sweep, &runs, rung)?);
    }
    Ok(0)
}

/// Writes down what is planned, for those who look at a sweep before its first worker has begun.
pub fn announce(plan: &Plan, sweep: &SweepDir, commands: &[String]) -> Result<(), SweepError> {
    if !sweep.path().join("experiment.json").exists() {
        sweep.write_experiment(&plan.record(commands, &[], std::slice::from_ref(&plan.runs), &[])?)?;
    }
    Ok(())
}
