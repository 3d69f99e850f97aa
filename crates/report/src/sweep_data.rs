//! The files of a sweep, read once, with its series and x values in order.

mod x_axis;

use std::collections::{BTreeMap, BTreeSet};

use prospect_core::sample::mean;
use prospect_runs::{
    Experiment, Generation, GenerationSource, JudgeNote, MetricsRecord, ModelSize, PairOutcome, PlannedRun,
    RecordKind, RunDir, RunsError, State, Status, Summary, SweepDir, SweepProgress, ThumbOutcome,
};
use serde_json::Value;

pub(crate) use self::x_axis::{XAxis, XValue};
use crate::{
    ReportError, format,
    render::{figure::LegendEntry, style::SeriesStyle},
};

/// A sweep in memory.
pub(crate) struct SweepData {
    pub(crate) experiment: Experiment,
    /// Summary, if at least one run has ended.
    pub(crate) summary: Option<Summary>,
    /// Judges whose judgements are stored with the sweep.
    pub(crate) judges: Vec<JudgeNote>,
    /// Names of the series, in plan order.
    pub(crate) series: Vec<String>,
    pub(crate) x: XAxis,
    /// Runs, in plan order.
    pub(crate) runs: Vec<RunData>,
    /// Shared stages by name, as runs without settings.
    pub(crate) stages: Vec<(String, RunData)>,
}

/// The runs (seeds) of one series at one x value.
pub(crate) struct RunGroup<'a> {
    pub(crate) series: String,
    pub(crate) x: f64,
    pub(crate) x_name: String,
    pub(crate) runs: Vec<&'a RunData>,
}

impl RunGroup<'_> {
    /// Returns the mean over the runs that have a value.
    pub(crate) fn mean(&self, value: impl Fn(&RunData) -> Option<f64>) -> Option<f64> {
        mean(self.runs.iter().filter_map(|run| value(run)))
    }
}

/// A run in memory, finished or not.
pub(crate) struct RunData {
    pub(crate) planned: PlannedRun,
    pub(crate) status: Option<Status>,
    pub(crate) metrics: Vec<MetricsRecord>,
    /// Held-out pairs with the log-ratios of the trained policy.
    pub(crate) pairs: Vec<PairOutcome>,
    /// Held-out thumbs with the log-ratios of the trained policy.
    pub(crate) thumbs: Vec<ThumbOutcome>,
    /// Completions sampled from the trained policy.
    pub(crate) generations: Vec<Generation>,
    /// Origin of the completions, if another engine made them.
    pub(crate) generation_source: Option<GenerationSource>,
    /// β, the factor from log-ratios to rewards; 1 if the configuration has none.
    pub(crate) beta: f64,
    /// Size of the model, if recorded.
    pub(crate) size: Option<ModelSize>,
    /// Number of optimizer steps of the whole training, if recorded.
    pub(crate) steps_planned: Option<u64>,
    /// First error of reading the run's files.
    pub(crate) unreadable: Option<String>,
}

impl SweepData {
    /// Reads a sweep.
    ///
    /// Only the files of the sweep itself are required. An unreadable file of a run is reported
    /// with that run.
    pub(crate) fn read(dir: &SweepDir) -> Result<Self, ReportError> {
        let failed = |source| ReportError::Sweep { path: dir.path().to_owned(), source };
        let experiment = dir.experiment().map_err(failed)?;
        let summary = dir.summary().map_err(failed)?;
        let judges = dir.judges().map_err(failed)?;
        // The summary of a sweep without ended runs is empty.
        let summary = summary.filter(|summary| !summary.points.is_empty() || experiment.runs.is_empty());
        let planned_series =
            experiment.runs.iter().map(|run| setting_text(run.settings.get(&experiment.series.key)));
        let estimated_series = summary.iter().flat_map(|summary| &summary.points).map(|p| p.series.clone());
        let mut series = Vec::new();
        for name in planned_series.chain(estimated_series) {
            if !series.contains(&name) {
                series.push(name);
            }
        }
        let x = XAxis::new(&experiment, summary.as_ref());
        let runs =
            experiment.runs.iter().map(|planned| RunData::read(&dir.run(&planned.id), planned.clone()));
        let stages = experiment.stages.iter().map(|stage| {
            let planned = PlannedRun { id: stage.id.clone(), settings: BTreeMap::new(), seed: 0, data: 0 };
            (stage.name.clone(), RunData::read(&dir.run(&stage.id), planned))
        });
        Ok(Self { series, x, runs: runs.collect(), stages: stages.collect(), experiment, summary, judges })
    }

    /// Returns the number of runs in each state, as a sentence without its full stop.
    pub(crate) fn progress(&self) -> String {
        self.runs.iter().map(RunData::state).collect::<SweepProgress>().to_string()
    }

    /// Returns the index of a series, by name.
    pub(crate) fn series_index(&self, name: &str) -> usize {
        self.series.iter().position(|series| series == name).unwrap_or(0)
    }

    /// Returns the style of a series, by name.
    pub(crate) fn style(&self, name: &str) -> SeriesStyle {
        SeriesStyle::Series(self.series_index(name))
    }

    /// Returns the series of a run.
    pub(crate) fn series_of(&self, run: &RunData) -> String {
        setting_text(run.planned.settings.get(&self.experiment.series.key))
    }

    /// Returns a readable name of a run: series, x value (if there are several) and seed.
    pub(crate) fn run_name(&self, run: &RunData) -> String {
        let x = self.x.of_run(run).filter(|_| self.x.values().len() > 1);
        let at_x = x.map(|x| format!(" at {}", self.x.name(x))).unwrap_or_default();
        format!("{}{at_x}, seed {}", self.series_of(run), run.planned.seed)
    }

    /// Returns the size of the models at an x value, if all have the same.
    pub(crate) fn size_at(&self, x: f64) -> Option<&ModelSize> {
        let runs = self.runs.iter().filter(|run| self.x.of_run(run) == Some(x));
        let mut sizes = runs.filter_map(|run| run.size.as_ref());
        let first = sizes.next()?;
        sizes.all(|size| size == first).then_some(first)
    }

    /// Returns the runs grouped by x value and series, in that order, without empty groups.
    pub(crate) fn run_groups(&self) -> Vec<RunGroup<'_>> {
        let xs = self.x.values().iter();
        let keys = xs.flat_map(|x| self.series.iter().map(move |series| (series, x)));
        let group = |(series, x): (&'_ String, &'_ XValue)| {
            let runs: Vec<&RunData> = self
                .runs
                .iter()
                .filter(|run| self.series_of(run) == *series && self.x.of_run(run) == Some(x.value))
                .collect();
            (!runs.is_empty()).then(|| RunGroup {
                series: series.clone(),
                x: x.value,
                x_name: x.name.clone(),
                runs,
            })
        };
        keys.filter_map(group).collect()
    }

    /// Returns the legend of all series.
    pub(crate) fn legend(&self) -> Vec<LegendEntry> {
        let entry = |(index, name): (usize, &String)| LegendEntry {
            style: SeriesStyle::Series(index),
            label: name.clone(),
        };
        self.series.iter().enumerate().map(entry).collect()
    }

    /// Returns the names of the swept settings, in alphabetical order.
    pub(crate) fn setting_names(&self) -> Vec<String> {
        let names = self.runs.iter().flat_map(|run| run.planned.settings.keys());
        names.collect::<BTreeSet<_>>().into_iter().cloned().collect()
    }
}

impl RunData {
    fn read(dir: &RunDir, planned: PlannedRun) -> Self {
        let mut unreadable = None;
        let status = ok_or_record(dir.status(), &mut unreadable).flatten();
        let metrics = ok_or_record(dir.metrics(), &mut unreadable).unwrap_or_default();
        let pairs = ok_or_record(dir.pairs(), &mut unreadable).unwrap_or_default();
        let thumbs = ok_or_record(dir.thumbs(), &mut unreadable).unwrap_or_default();
        let generations = ok_or_record(dir.generations(), &mut unreadable).unwrap_or_default();
        let generation_source = ok_or_record(dir.generation_source(), &mut unreadable).flatten();
        let config = status.is_some().then(|| ok_or_record(dir.config(), &mut unreadable)).flatten();
        let config = config.unwrap_or_default();
        Self {
            planned,
            status,
            metrics,
            pairs,
            thumbs,
            generations,
            generation_source,
            beta: config.beta().unwrap_or(1.0),
            size: config.model_size(),
            steps_planned: config.steps,
            unreadable,
        }
    }

    /// Returns the state of the run; `None` if it has not started.
    pub(crate) fn state(&self) -> Option<State> {
        self.status.as_ref().map(|status| status.state)
    }

    /// Returns the name of the run's state.
    pub(crate) fn state_name(&self) -> &'static str {
        self.state().map_or(State::NOT_STARTED, Into::into)
    }

    /// Returns the reason of the run's failure, or the error of reading its files.
    pub(crate) fn error(&self) -> Option<&str> {
        let failure = self.status.as_ref().filter(|status| status.state == State::Failed);
        failure.and_then(|status| status.reason.as_deref()).or(self.unreadable.as_deref())
    }

    /// Returns the reason why the run was stopped early, if it was.
    pub(crate) fn stop_reason(&self) -> Option<&str> {
        let stopped = self.status.as_ref().filter(|status| status.state == State::Stopped);
        stopped.and_then(|status| status.reason.as_deref())
    }

    /// Returns the number of completed optimizer steps.
    pub(crate) fn steps(&self) -> Option<u64> {
        self.metrics.iter().map(|record| record.step).max()
    }

    /// Returns the mean of a training metric over the last quarter of its values.
    pub(crate) fn late_mean(&self, metric: &str) -> Option<f64> {
        let train = self.metrics.iter().filter(|record| record.kind == RecordKind::Train);
        let values: Vec<f64> = train.filter_map(|record| record.values.get(metric)).copied().collect();
        let (_, late) = values.split_at(values.len() - values.len().div_ceil(4));
        mean(late.iter().copied())
    }

    /// Returns the last headline measure: accuracy on held-out pairs, or the AUC of thumbs.
    pub(crate) fn headline(&self) -> Option<f64> {
        let metrics = ["eval_rewards/accuracies", "eval_thumbs/auc"];
        metrics.into_iter().find_map(|metric| self.last(RecordKind::Eval, metric))
    }

    /// Returns the first value of a metric.
    pub(crate) fn first(&self, kind: RecordKind, metric: &str) -> Option<f64> {
        let mut records = self.metrics.iter().filter(|record| record.kind == kind);
        records.find_map(|record| record.values.get(metric)).copied()
    }

    /// Returns the last value of a metric.
    pub(crate) fn last(&self, kind: RecordKind, metric: &str) -> Option<f64> {
        let mut records = self.metrics.iter().rev().filter(|record| record.kind == kind);
        records.find_map(|record| record.values.get(metric)).copied()
    }
}

/// Returns the value, or keeps the first error's message in `unreadable`.
fn ok_or_record<T>(result: Result<T, RunsError>, unreadable: &mut Option<String>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            unreadable.get_or_insert_with(|| error.to_string());
            None
        }
    }
}

fn setting_text(setting: Option<&Value>) -> String {
    format::setting(setting.unwrap_or(&Value::Null))
}
