//! A sweep as the report sees it: everything read once, with its series and x values in order.

use std::collections::BTreeMap;

use prospect_runs::{
    Experiment, Generation, JudgeNote, MetricsRecord, ModelSize, PairOutcome, PlannedRun, RecordKind, RunDir,
    RunsError, State, Status, Summary, SweepDir,
};
use serde_json::Value;

use crate::{ReportError, axis::XAxis, look::Look, text};

/// A sweep's files in memory.
pub(crate) struct Sweep {
    pub(crate) experiment: Experiment,
    pub(crate) summary: Option<Summary>,
    /// The judges that were asked.
    pub(crate) judges: Vec<JudgeNote>,
    /// Names of the series, in the order of the plan.
    pub(crate) series: Vec<String>,
    pub(crate) x: XAxis,
    /// The runs, in the order of the plan.
    pub(crate) runs: Vec<Run>,
    /// The shared stages by name, as runs without settings.
    pub(crate) stages: Vec<(String, Run)>,
}

/// The runs of one series at one x.
pub(crate) struct Cell<'a> {
    pub(crate) series: String,
    pub(crate) x: f64,
    pub(crate) x_name: String,
    pub(crate) runs: Vec<&'a Run>,
}

impl Cell<'_> {
    /// The mean over the runs that have a value.
    pub(crate) fn mean(&self, value: impl Fn(&Run) -> Option<f64>) -> Option<f64> {
        let values: Vec<f64> = self.runs.iter().filter_map(|run| value(run)).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }
}

/// A run and what it has left so far.
pub(crate) struct Run {
    pub(crate) planned: PlannedRun,
    pub(crate) status: Option<Status>,
    pub(crate) metrics: Vec<MetricsRecord>,
    /// The held-out pairs under the trained policy.
    pub(crate) pairs: Vec<PairOutcome>,
    /// What the trained policy says.
    pub(crate) generations: Vec<Generation>,
    /// β, with which log-ratios become rewards.
    pub(crate) beta: f64,
    /// How large its model is, where the run says so.
    pub(crate) size: Option<ModelSize>,
    /// Optimizer steps that training takes, where the run says so.
    pub(crate) steps_planned: Option<u64>,
    /// Why a file of the run cannot be read.
    pub(crate) unreadable: Option<String>,
}

impl Sweep {
    /// Reads the sweep's files. A broken file of one run is shown with that run; only the sweep's own are needed.
    pub(crate) fn read(dir: &SweepDir) -> Result<Self, ReportError> {
        let failed = |source| ReportError::Sweep { path: dir.path().to_owned(), source };
        let experiment = dir.experiment().map_err(failed)?;
        let summary = dir.summary().map_err(failed)?;
        let judges = dir.judges().map_err(failed)?;
        // Of a sweep of which no run has ended it says nothing.
        let summary = summary.filter(|summary| !summary.points.is_empty() || experiment.runs.is_empty());
        let planned_series =
            experiment.runs.iter().map(|run| text_of(run.settings.get(&experiment.series.key)));
        let estimated_series = summary.iter().flat_map(|summary| &summary.points).map(|p| p.series.clone());
        let mut series = Vec::new();
        for name in planned_series.chain(estimated_series) {
            if !series.contains(&name) {
                series.push(name);
            }
        }
        let x = XAxis::of(&experiment, summary.as_ref());
        let runs = experiment.runs.iter().map(|planned| Run::read(&dir.run(&planned.id), planned.clone()));
        let stages = experiment.stages.iter().map(|stage| {
            let planned = PlannedRun { id: stage.id.clone(), settings: BTreeMap::new(), seed: 0, data: 0 };
            (stage.name.clone(), Run::read(&dir.run(&stage.id), planned))
        });
        Ok(Self { series, x, runs: runs.collect(), stages: stages.collect(), experiment, summary, judges })
    }

    /// The place of the series called `name` among all.
    pub(crate) fn place(&self, name: &str) -> usize {
        self.series.iter().position(|series| series == name).unwrap_or(0)
    }

    /// How the series called `name` looks.
    pub(crate) fn look(&self, name: &str) -> Look {
        Look::Series(self.place(name))
    }

    /// The series that a run belongs to.
    pub(crate) fn series_of(&self, run: &Run) -> String {
        text_of(run.planned.settings.get(&self.experiment.series.key))
    }

    /// How large the model of the runs at an x value is, if they have one size.
    pub(crate) fn size_at(&self, x: f64) -> Option<&ModelSize> {
        let runs = self.runs.iter().filter(|run| self.x.of_run(run) == Some(x));
        let mut sizes = runs.filter_map(|run| run.size.as_ref());
        let first = sizes.next()?;
        sizes.all(|size| size == first).then_some(first)
    }

    /// Series and x values in order, with the runs of each; places without runs are left out.
    pub(crate) fn cells(&self) -> Vec<Cell<'_>> {
        let xs = self.x.values().iter();
        let places = xs.flat_map(|(x, name)| self.series.iter().map(move |series| (series, *x, name)));
        let cell = |(series, x, x_name): (&'_ String, f64, &'_ String)| {
            let runs: Vec<&Run> = self
                .runs
                .iter()
                .filter(|run| self.series_of(run) == *series && self.x.of_run(run) == Some(x))
                .collect();
            (!runs.is_empty()).then(|| Cell { series: series.clone(), x, x_name: x_name.clone(), runs })
        };
        places.filter_map(cell).collect()
    }

    /// What each look stands for.
    pub(crate) fn legend(&self) -> Vec<(Look, String)> {
        self.series.iter().enumerate().map(|(index, name)| (Look::Series(index), name.clone())).collect()
    }

    /// Names of the swept settings, in alphabetical order.
    pub(crate) fn setting_names(&self) -> Vec<String> {
        let names = self.runs.iter().flat_map(|run| run.planned.settings.keys());
        names.collect::<std::collections::BTreeSet<_>>().into_iter().cloned().collect()
    }
}

impl Run {
    fn read(dir: &RunDir, planned: PlannedRun) -> Self {
        let mut unreadable = None;
        let status = kept(dir.status(), &mut unreadable).flatten();
        let metrics = kept(dir.metrics(), &mut unreadable).unwrap_or_default();
        let pairs = kept(dir.pairs(), &mut unreadable).unwrap_or_default();
        let generations = kept(dir.generations(), &mut unreadable).unwrap_or_default();
        let config = status.is_some().then(|| kept(dir.config(), &mut unreadable)).flatten();
        let config = config.unwrap_or_default();
        Self {
            planned,
            status,
            metrics,
            pairs,
            generations,
            beta: config.beta().unwrap_or(1.0),
            size: config.model_size(),
            steps_planned: config.steps,
            unreadable,
        }
    }

    /// Whether the run has come to its end, has failed, or neither.
    pub(crate) fn state(&self) -> &'static str {
        match self.status.as_ref().map(|status| status.state) {
            None => "not started",
            Some(State::Running) => "running",
            Some(State::Finished) => "finished",
            Some(State::Failed) => "failed",
            Some(State::Stopped) => "stopped",
        }
    }

    /// What went wrong, where something did.
    pub(crate) fn error(&self) -> Option<&str> {
        let failure = self.status.as_ref().filter(|status| status.state == State::Failed);
        failure.and_then(|status| status.reason.as_deref()).or(self.unreadable.as_deref())
    }

    /// Why the run was ended before its last step, if it was.
    pub(crate) fn stopped(&self) -> Option<&str> {
        let stopped = self.status.as_ref().filter(|status| status.state == State::Stopped);
        stopped.and_then(|status| status.reason.as_deref())
    }

    /// Optimizer steps done.
    pub(crate) fn steps(&self) -> Option<u64> {
        self.metrics.iter().map(|record| record.step).max()
    }

    /// The mean of a training metric over the last quarter of its values.
    pub(crate) fn late(&self, metric: &str) -> Option<f64> {
        let train = self.metrics.iter().filter(|record| record.kind == RecordKind::Train);
        let values: Vec<f64> = train.filter_map(|record| record.values.get(metric)).copied().collect();
        let (_, late) = values.split_at(values.len() - values.len().div_ceil(4));
        (!late.is_empty()).then(|| late.iter().sum::<f64>() / late.len() as f64)
    }

    /// The last value of a metric.
    pub(crate) fn last(&self, kind: RecordKind, metric: &str) -> Option<f64> {
        let mut records = self.metrics.iter().rev().filter(|record| record.kind == kind);
        records.find_map(|record| record.values.get(metric)).copied()
    }
}

/// The value, or the first error's text in `unreadable`.
fn kept<T>(result: Result<T, RunsError>, unreadable: &mut Option<String>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            unreadable.get_or_insert_with(|| error.to_string());
            None
        }
    }
}

fn text_of(setting: Option<&Value>) -> String {
    text::setting(setting.unwrap_or(&Value::Null))
}
