//! Optimizer steps and epochs of each series.

use std::collections::BTreeMap;

use prospect_core::not_fetched::NotFetched;
use prospect_data::{Manifest, SplitCounts, dry_run, read_manifest};
use prospect_runs::series_name;
use prospect_train::{FeedbackFormat, Objective};
use serde::Serialize;

use crate::{
    SweepError,
    plan::{DatasetSource, PlannedDataset, SweepPlan},
};

/// Optimizer steps and epochs of a series' runs on one dataset.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SeriesSchedule {
    /// The series.
    pub series: String,
    /// Values on the x axis that this applies to, in the order of the plan.
    pub xs: Vec<String>,
    /// Completions in one epoch. A pair counts as two.
    pub completions: usize,
    /// Completions in one optimizer step.
    pub batch_size: usize,
    /// Optimizer steps.
    pub steps: u64,
    /// Epochs.
    pub epochs: f64,
}

/// Optimizer steps and epochs of every series, for the runs of the first seed.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingSchedule {
    /// The seed.
    pub seed: u64,
    /// One row for each series and dataset.
    pub rows: Vec<SeriesSchedule>,
    /// All values on the x axis.
    pub xs: Vec<String>,
    /// Values on the x axis at which series differ in optimizer steps.
    pub steps_differ: Vec<String>,
    /// Values on the x axis at which series differ in epochs.
    pub epochs_differ: Vec<String>,
    /// Training rows of the datasets, by index, that were counted.
    pub counts: BTreeMap<usize, SplitCounts>,
    /// Reasons why datasets could not be counted.
    pub errors: Vec<String>,
}

/// Returns the completions that `objective` sees in one epoch of a training split.
pub(crate) fn completions_per_epoch(train: SplitCounts, objective: &Objective) -> usize {
    let completions = match objective.feedback_format() {
        FeedbackFormat::Unpaired | FeedbackFormat::All => train.n_desirable + train.n_undesirable,
        FeedbackFormat::Paired => 2 * train.pairs,
        FeedbackFormat::Desirable => train.n_desirable,
    };
    completions as usize
}

/// Returns the counts of a dataset, prepared or not.
pub(crate) fn count_dataset(dataset: &PlannedDataset) -> Result<Manifest, SweepError> {
    match (dataset.prepared()?, &dataset.source) {
        (None, DatasetSource::Recipe(pipeline)) => Ok(dry_run(pipeline)?),
        (None, DatasetSource::NotFetched { missing, .. }) => Err(missing.clone().into()),
        (Some(manifest), _) => Ok(manifest),
        (None, DatasetSource::Prepared { .. }) => Ok(read_manifest(&dataset.path)?),
    }
}

/// Computes optimizer steps and epochs of every series of `plan`; with a search, of the last rung.
///
/// Datasets that are not prepared are read and counted. Counts include rows that later prove too
/// long for the model.
pub fn training_schedule(plan: &SweepPlan) -> TrainingSchedule {
    let [x_axis, series_axis] = &plan.axes;
    let seed = plan.runs.first().map_or(0, |run| run.seed);
    let mut counts: BTreeMap<usize, Option<SplitCounts>> = BTreeMap::new();
    let (mut errors, mut cells, mut xs) = (Vec::new(), Vec::new(), Vec::new());
    let trained = plan.full_length_runs().iter().filter(|run| run.untrained.is_none());
    for run in trained.filter(|run| run.seed == seed) {
        let counts = counts.entry(run.dataset).or_insert_with(|| {
            let manifest = count_dataset(&plan.datasets[run.dataset]);
            let explain = |error: SweepError| match error {
                SweepError::NotFetched(NotFetched(address)) => {
                    format!("not fetched, counts unknown: {address}")
                }
                error => format!("cannot count the data: {error}"),
            };
            manifest.map_err(|error| errors.push(explain(error))).ok().map(|manifest| manifest.train)
        });
        let value = |key: &str| run.settings.get(key).map(series_name).unwrap_or_default();
        let x = value(&x_axis.key);
        if !xs.contains(&x) {
            xs.push(x.clone());
        }
        let Some(counts) = counts else { continue };
        let completions = completions_per_epoch(*counts, &run.train.objective);
        cells.push(SeriesSchedule {
            series: value(&series_axis.key),
            xs: vec![x],
            completions,
            batch_size: run.train.batch_size,
            steps: run.train.steps(completions),
            epochs: run.train.epochs(completions),
        });
    }
    errors.dedup();
    let differ = |differ: &dyn Fn(&SeriesSchedule, &SeriesSchedule) -> bool| -> Vec<String> {
        let differs_at = |x: &&String| {
            let mut here = cells.iter().filter(|cell| cell.xs[0] == **x);
            let Some(first) = here.next() else { return false };
            here.any(|other| differ(first, other))
        };
        xs.iter().filter(differs_at).cloned().collect()
    };
    TrainingSchedule {
        seed,
        steps_differ: differ(&|a, b| a.steps != b.steps),
        // The last batch may be short, so differences below 0.01 epochs do not count.
        epochs_differ: differ(&|a, b| (a.epochs - b.epochs).abs() >= 0.01),
        rows: merge_rows(cells),
        xs,
        counts: counts.into_iter().filter_map(|(dataset, counts)| Some((dataset, counts?))).collect(),
        errors,
    }
}

/// Merges cells of a series that differ only in x.
fn merge_rows(cells: Vec<SeriesSchedule>) -> Vec<SeriesSchedule> {
    let mut rows: Vec<SeriesSchedule> = Vec::new();
    for cell in cells {
        let differs_only_in_x = |row: &&mut SeriesSchedule| {
            SeriesSchedule { xs: Vec::new(), ..(**row).clone() }
                == SeriesSchedule { xs: Vec::new(), ..cell.clone() }
        };
        match rows.iter_mut().find(differs_only_in_x) {
            Some(row) => {
                let new: Vec<String> = cell.xs.into_iter().filter(|x| !row.xs.contains(x)).collect();
                row.xs.extend(new);
            }
            None => rows.push(cell),
        }
    }
    rows
}
