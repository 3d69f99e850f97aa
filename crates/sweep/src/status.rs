//! Progress of a sweep, read from its directory.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::SystemTime,
};

use prospect_core::sample::median;
use prospect_runs::{Experiment, RunDir, RunsError, Status, SweepDir, last};
use serde::Serialize;
use serde_json::Value;

use crate::SweepError;

mod run_state;

pub use run_state::RunState;

/// Progress of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SweepStatus {
    /// Name of the experiment.
    pub name: String,
    /// The experiment's question.
    pub question: String,
    /// True if a process is working on the sweep now: on its data, a stage or a run.
    pub worked_on: bool,
    /// Number of runs by state.
    pub counts: BTreeMap<RunState, usize>,
    /// Remaining work.
    #[serde(rename = "left")]
    pub remaining: Remaining,
    /// Shared stages, as runs without settings.
    pub stages: Vec<RunStatus>,
    /// Runs, in the order of the plan.
    pub runs: Vec<RunStatus>,
}

/// Remaining work of a sweep. Failed and stopped runs are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Remaining {
    /// Unfinished runs.
    pub runs: usize,
    /// Unfinished shared stages, whose duration is unknown.
    pub stages: usize,
    /// Estimated seconds of the runs, one at a time. Each takes the median of the finished runs
    /// with its settings, else of its series, else of all. None if none has finished.
    pub seconds: Option<f64>,
    /// Finished runs that the estimate is based on.
    #[serde(rename = "known_from")]
    pub finished_runs: usize,
}

/// Progress of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunStatus {
    /// Name of its directory.
    pub id: String,
    /// The swept settings.
    pub settings: BTreeMap<String, Value>,
    /// Random seed.
    pub seed: u64,
    /// State.
    pub state: RunState,
    /// Process that is working on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Optimizer steps done.
    pub step: u64,
    /// Optimizer steps in total; None before it has started.
    pub steps: Option<u64>,
    /// Wall-clock seconds of training and evaluation so far.
    pub seconds: Option<f64>,
    /// Tokens per second in training steps.
    pub tokens_per_second: Option<f64>,
    /// Reason why it failed or was stopped, or the error if one of its files cannot be read.
    pub reason: Option<String>,
    /// Error log, if there is one.
    pub log: Option<PathBuf>,
}

/// Reads the progress of a sweep, which other processes may be working on.
pub fn sweep_status(sweep: &SweepDir) -> Result<SweepStatus, SweepError> {
    let experiment = sweep.experiment()?;
    let held = sweep.claims().held()?;
    let status = |id: &str, settings: &BTreeMap<String, Value>, seed| RunStatus {
        settings: settings.clone(),
        seed,
        worker: held.get(id).map(ToString::to_string),
        ..run_status(&sweep.run(id), held.contains_key(id))
    };
    let stages: Vec<_> =
        experiment.stages.iter().map(|stage| status(&stage.id, &BTreeMap::new(), 0)).collect();
    let runs: Vec<_> =
        experiment.all_runs().into_iter().map(|run| status(&run.id, &run.settings, run.seed)).collect();
    let mut counts = BTreeMap::new();
    for run in &runs {
        *counts.entry(run.state).or_default() += 1;
    }
    Ok(SweepStatus {
        remaining: estimate_remaining(&experiment, &runs, &stages),
        name: experiment.name,
        question: experiment.question,
        worked_on: !held.is_empty(),
        counts,
        stages,
        runs,
    })
}

fn run_status(run: &RunDir, is_claimed: bool) -> RunStatus {
    let unknown = RunStatus {
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
    let read = || -> Result<RunStatus, RunsError> {
        let Some(status) = run.status()? else { return Ok(unknown.clone()) };
        let metrics = run.metrics()?;
        // A run that failed before its first step has no config.
        let steps = run.config().ok().and_then(|config| config.steps);
        let state = RunState::from_status(Some(&status), is_claimed);
        let (seconds, rate) = run_times(run, &status, state, last(&metrics, "num_tokens").unwrap_or(0.0))?;
        Ok(RunStatus {
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
    // An unreadable file is reported with its run and does not hide the others.
    read().unwrap_or_else(|error| RunStatus { reason: Some(error.to_string()), ..unknown.clone() })
}

/// Returns the seconds of work and the tokens per second.
///
/// `status.json` of an unfinished run was written when it last started or resumed, `metrics.jsonl`
/// after each step.
fn run_times(
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
    let since = modified_at(&run.path().join("status.json"))?;
    let last_step = modified_at(&run.path().join("metrics.jsonl")).unwrap_or(since);
    let until = if state == RunState::Running { SystemTime::now() } else { last_step };
    let seconds = |until: SystemTime| until.duration_since(since).map_or(0.0, |time| time.as_secs_f64());
    let rate = match seconds(last_step) {
        time if time > 0.0 && tokens > before => Some((tokens - before) / time),
        _ => all,
    };
    Ok((status.seconds + seconds(until), rate))
}

fn modified_at(file: &Path) -> std::io::Result<SystemTime> {
    fs_err::metadata(file)?.modified()
}

fn estimate_remaining(experiment: &Experiment, runs: &[RunStatus], stages: &[RunStatus]) -> Remaining {
    let series = |run: &RunStatus| run.settings.get(&experiment.series.key).cloned();
    let finished: Vec<&RunStatus> = runs.iter().filter(|run| run.state == RunState::Finished).collect();
    let median_of = |is_similar: &dyn Fn(&RunStatus) -> bool| {
        median(finished.iter().filter(|run| is_similar(run)).filter_map(|run| run.seconds))
    };
    let seconds = |run: &RunStatus| {
        let full = median_of(&|other| other.settings == run.settings)
            .or_else(|| median_of(&|other| series(other) == series(run)))
            .or_else(|| median_of(&|_| true))?;
        let done = run.steps.map_or(0.0, |steps| run.step as f64 / steps.max(1) as f64);
        Some(full * (1.0 - done).max(0.0))
    };
    let is_unfinished = |run: &&RunStatus| run.state.is_unfinished();
    Remaining {
        runs: runs.iter().filter(is_unfinished).count(),
        stages: stages.iter().filter(is_unfinished).count(),
        seconds: runs.iter().filter(is_unfinished).map(seconds).sum(),
        finished_runs: finished.len(),
    }
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
            primary: None,
            level: None,
            resample: Vec::new(),
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
            more_references: Vec::new(),
            trained_starts: Vec::new(),
            capabilities: Vec::new(),
            untrained: Vec::new(),
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
    fn the_remaining_time_comes_from_the_most_similar_runs() {
        let folder = tempfile::tempdir().unwrap();
        let sweep = sweep(folder.path());
        let before = sweep_status(&sweep).unwrap();
        assert_eq!(before.counts, [(RunState::ToDo, 5)].into());
        assert_eq!(before.remaining, Remaining { runs: 5, stages: 0, seconds: None, finished_runs: 0 });
        finish(&sweep, "a", 10.0);
        finish(&sweep, "d", 40.0);
        let after = sweep_status(&sweep).unwrap();
        // b takes as long as a, c as its series, e as d.
        assert_eq!(after.remaining, Remaining { runs: 3, stages: 0, seconds: Some(60.0), finished_runs: 2 });
        assert_eq!(after.runs[0].tokens_per_second, Some(10.0));
        finish(&sweep, "c", 20.0);
        assert_eq!(sweep_status(&sweep).unwrap().remaining.seconds, Some(50.0));
    }

    #[test]
    fn a_run_is_running_only_while_a_process_holds_it() {
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
        let held = sweep_status(&sweep).unwrap();
        assert!(held.worked_on);
        assert_eq!(
            (held.runs[1].state, held.runs[1].step, held.runs[1].steps),
            (RunState::Running, 1, Some(4))
        );
        // Three quarters of b, c, and d and e, which take as long as the only finished run.
        assert_eq!(held.remaining.seconds, Some(37.5));
        drop(claim);
        let free = sweep_status(&sweep).unwrap();
        assert_eq!((free.worked_on, free.runs[1].state), (false, RunState::Interrupted));
    }

    #[test]
    fn failed_runs_have_a_log_and_do_not_count_as_remaining() {
        let folder = tempfile::tempdir().unwrap();
        let sweep = sweep(folder.path());
        sweep.run("a").fail(&std::io::Error::other("no memory"), 1.0).unwrap();
        fs_err::create_dir_all(sweep.run("b").path()).unwrap();
        fs_err::write(sweep.run("b").path().join("status.json"), "{").unwrap();
        let sweep_status = sweep_status(&sweep).unwrap();
        let failed = &sweep_status.runs[0];
        assert_eq!((failed.state, failed.reason.as_deref()), (RunState::Failed, Some("no memory")));
        assert_eq!(failed.log.as_deref(), Some(sweep.run("a").error_log().as_path()));
        assert!(sweep_status.runs[1].reason.as_ref().unwrap().contains("status.json"));
        assert_eq!(sweep_status.remaining.runs, 4);
    }
}
