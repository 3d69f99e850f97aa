//! How a sweep stands, from its directory alone.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::SystemTime,
};

use prospect_runs::{Experiment, RunDir, RunsError, Status, SweepDir, last};
use serde::Serialize;
use serde_json::Value;

use crate::{RunState, SweepError};

/// How a sweep stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SweepStatus {
    /// The experiment's name.
    pub name: String,
    /// Its question.
    pub question: String,
    /// Whether a process works on it at this moment: on its data, a stage or a run.
    pub worked_on: bool,
    /// How many runs there are of each state.
    pub counts: BTreeMap<RunState, usize>,
    /// What is left to do.
    pub left: Left,
    /// Shared stages, as runs without settings.
    pub stages: Vec<RunStanding>,
    /// Runs, in the order of the plan.
    pub runs: Vec<RunStanding>,
}

/// What is left to do of a sweep: runs that are not finished, but for failed and stopped ones.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Left {
    /// Runs.
    pub runs: usize,
    /// Shared stages, whose time is not known.
    pub stages: usize,
    /// Seconds that the runs take at one run at a time, by the median of finished runs that are most like each: those of its
    /// settings, else of its series, else all. None if none has finished.
    pub seconds: Option<f64>,
    /// Finished runs that this is known from.
    pub known_from: usize,
}

/// How one run stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunStanding {
    /// The name of its directory.
    pub id: String,
    /// The swept settings.
    pub settings: BTreeMap<String, Value>,
    /// Its seed.
    pub seed: u64,
    /// How it stands.
    pub state: RunState,
    /// The process that works on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Optimizer steps done.
    pub step: u64,
    /// Optimizer steps to do, once it has begun.
    pub steps: Option<u64>,
    /// Wall-clock seconds of work so far.
    pub seconds: Option<f64>,
    /// Tokens that pass through the model in training steps, by the second of work.
    pub tokens_per_second: Option<f64>,
    /// Why it failed or was stopped, or which of its files cannot be read.
    pub reason: Option<String>,
    /// The file that tells more of it.
    pub log: Option<PathBuf>,
}

/// Reads how the sweep stands, whether or not a process works on it.
pub fn standing(sweep: &SweepDir) -> Result<SweepStatus, SweepError> {
    let experiment = sweep.experiment()?;
    let held = sweep.claims().held()?;
    let of = |id: &str, settings: &BTreeMap<String, Value>, seed| RunStanding {
        settings: settings.clone(),
        seed,
        worker: held.get(id).map(ToString::to_string),
        ..run_standing(&sweep.run(id), held.contains_key(id))
    };
    let stages: Vec<_> = experiment.stages.iter().map(|stage| of(&stage.id, &BTreeMap::new(), 0)).collect();
    let runs: Vec<_> =
        experiment.all_runs().into_iter().map(|run| of(&run.id, &run.settings, run.seed)).collect();
    let mut counts = BTreeMap::new();
    for run in &runs {
        *counts.entry(run.state).or_default() += 1;
    }
    Ok(SweepStatus {
        left: left(&experiment, &runs, &stages),
        name: experiment.name,
        question: experiment.question,
        worked_on: !held.is_empty(),
        counts,
        stages,
        runs,
    })
}

fn run_standing(run: &RunDir, worked_on: bool) -> RunStanding {
    let unknown = RunStanding {
        id: run.id(),
        settings: BTreeMap::new(),
        seed: 0,
        state: RunState::ToDo,
        worker: None,
        step: 0,
        steps: None,
        seconds: None,
        tokens_per_second: None,
        reason: None,
        log: None,
    };
    let read = || -> Result<RunStanding, RunsError> {
        let Some(status) = run.status()? else { return Ok(unknown.clone()) };
        let metrics = run.metrics()?;
        // A run that failed before it began has none.
        let steps = run.config().ok().and_then(|config| config.steps);
        let state = RunState::of(Some(&status), worked_on);
        let (seconds, rate) = times(run, &status, state, last(&metrics, "num_tokens").unwrap_or(0.0))?;
        Ok(RunStanding {
            state,
            step: metrics.iter().map(|record| record.step).max().unwrap_or(0),
            steps,
            seconds: Some(seconds),
            tokens_per_second: rate.filter(|rate| *rate > 0.0),
            reason: status.reason,
            log: Some(run.error_log()).filter(|log| log.exists()),
            ..unknown.clone()
        })
    };
    // A file that cannot be read is told with its run.
    read().unwrap_or_else(|error| RunStanding { reason: Some(error.to_string()), ..unknown.clone() })
}

/// Seconds of work and tokens a second. `status.json` of a run in work was written when it was taken up, and `metrics.jsonl`
/// after each step.
fn times(
    run: &RunDir,
    status: &Status,
    state: RunState,
    tokens: f64,
) -> Result<(f64, Option<f64>), RunsError> {
    let before = status.tokens as f64;
    let all = (status.seconds > 0.0).then(|| before / status.seconds);
    if !matches!(state, RunState::Running | RunState::Interrupted) {
        return Ok((status.seconds, all));
    }
    let since = written(&run.path().join("status.json"))?;
    let last_step = written(&run.path().join("metrics.jsonl")).unwrap_or(since);
    let until = if state == RunState::Running { SystemTime::now() } else { last_step };
    let seconds = |until: SystemTime| until.duration_since(since).map_or(0.0, |time| time.as_secs_f64());
    let rate = match seconds(last_step) {
        time if time > 0.0 && tokens > before => Some((tokens - before) / time),
        _ => all,
    };
    Ok((status.seconds + seconds(until), rate))
}

fn written(file: &Path) -> std::io::Result<SystemTime> {
    fs_err::metadata(file)?.modified()
}

fn left(experiment: &Experiment, runs: &[RunStanding], stages: &[RunStanding]) -> Left {
    let series = |run: &RunStanding| run.settings.get(&experiment.series.key).cloned();
    let finished: Vec<&RunStanding> = runs.iter().filter(|run| run.state == RunState::Finished).collect();
    let median_of = |like: &dyn Fn(&RunStanding) -> bool| {
        median(finished.iter().filter(|run| like(run)).filter_map(|run| run.seconds).collect())
    };
    let seconds = |run: &RunStanding| {
        let whole = median_of(&|other| other.settings == run.settings)
            .or_else(|| median_of(&|other| series(other) == series(run)))
            .or_else(|| median_of(&|_| true))?;
        let done = run.steps.map_or(0.0, |steps| run.step as f64 / steps.max(1) as f64);
        Some(whole * (1.0 - done).max(0.0))
    };
    let is_left = |run: &&RunStanding| run.state.is_left();
    Left {
        runs: runs.iter().filter(is_left).count(),
        stages: stages.iter().filter(is_left).count(),
        seconds: runs.iter().filter(is_left).map(seconds).sum(),
        known_from: finished.len(),
    }
}

/// The middle of all values; None without any.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len().is_multiple_of(2) { f64::midpoint(values[middle - 1], upper) } else { upper })
}

#[cfg(test)]
mod tests {
    use prospect_runs::{Axis, MetricsRecord, PlannedRun, RecordKind, RunConfig, State};

    use super::*;

    fn sweep(folder: &Path) -> SweepDir {
        let sweep = SweepDir::at(folder.to_owned());
        let axis = |key: &str| Axis { key: key.to_owned(), label: key.to_owned() };
        let run = |id: &str, method: &str, x: f64, seed| PlannedRun {
            id: id.to_owned(),
            settings: [("method".to_owned(), method.into()), ("x".to_owned(), x.into())].into(),
            seed,
            data: 0,
        };
        let experiment = Experiment {
            name: "s".to_owned(),
            question: "Q?".to_owned(),
            commands: Vec::new(),
            x: axis("x"),
            series: axis("method"),
            baseline: "dpo".to_owned(),
            stages: Vec::new(),
            data: Vec::new(),
            runs: vec![
                run("a", "dpo", 1.0, 0),
                run("b", "dpo", 1.0, 1),
                run("c", "dpo", 0.5, 0),
                run("d", "kto", 1.0, 0),
                run("e", "kto", 1.0, 1),
            ],
            reference: None,
            search: None,
            base: Value::Null,
        };
        sweep.write_experiment(&experiment).unwrap();
        sweep
    }

    fn finish(sweep: &SweepDir, id: &str, seconds: f64) {
        let status = Status { state: State::Finished, seconds, tokens: 100, reason: None };
        sweep.run(id).set_status(&status).unwrap();
    }

    #[test]
    fn what_is_left_is_known_from_the_runs_that_are_most_alike() {
        let folder = tempfile::tempdir().unwrap();
        let sweep = sweep(folder.path());
        let before = standing(&sweep).unwrap();
        assert_eq!(before.counts, [(RunState::ToDo, 5)].into());
        assert_eq!(before.left, Left { runs: 5, stages: 0, seconds: None, known_from: 0 });
        finish(&sweep, "a", 10.0);
        finish(&sweep, "d", 40.0);
        let after = standing(&sweep).unwrap();
        // b as a, c as its series, e as d.
        assert_eq!(after.left, Left { runs: 3, stages: 0, seconds: Some(60.0), known_from: 2 });
        assert_eq!(after.runs[0].tokens_per_second, Some(10.0));
        finish(&sweep, "c", 20.0);
        assert_eq!(standing(&sweep).unwrap().left.seconds, Some(50.0));
    }

    #[test]
    fn a_run_in_work_is_running_only_while_a_process_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let sweep = sweep(folder.path());
        finish(&sweep, "a", 10.0);
        let run = sweep.run("b");
        run.begin(&RunConfig { steps: Some(4), ..RunConfig::default() }).unwrap();
        let record = MetricsRecord {
            kind: RecordKind::Train,
            step: 1,
            values: [("num_tokens".to_owned(), 7.0)].into(),
        };
        run.metrics_writer().unwrap().append(&record).unwrap();
        let claim = sweep.claims().take("b").unwrap();
        let held = standing(&sweep).unwrap();
        assert!(held.worked_on);
        assert_eq!(
            (held.runs[1].state, held.runs[1].step, held.runs[1].steps),
            (RunState::Running, 1, Some(4))
        );
        // Three quarters of b, c and, for want of others, d and e as the one that has finished.
        assert_eq!(held.left.seconds, Some(37.5));
        drop(claim);
        let free = standing(&sweep).unwrap();
        assert_eq!((free.worked_on, free.runs[1].state), (false, RunState::Interrupted));
    }

    #[test]
    fn failed_runs_are_told_with_their_log_and_are_not_left_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let sweep = sweep(folder.path());
        sweep.run("a").fail(&std::io::Error::other("no memory"), 1.0).unwrap();
        fs_err::create_dir_all(sweep.run("b").path()).unwrap();
        fs_err::write(sweep.run("b").path().join("status.json"), "{").unwrap();
        let standing = standing(&sweep).unwrap();
        let failed = &standing.runs[0];
        assert_eq!((failed.state, failed.reason.as_deref()), (RunState::Failed, Some("no memory")));
        assert_eq!(failed.log.as_deref(), Some(sweep.run("a").error_log().as_path()));
        assert!(standing.runs[1].reason.as_ref().unwrap().contains("status.json"));
        assert_eq!(standing.left.runs, 4);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(Vec::new()), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
