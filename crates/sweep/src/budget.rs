//! How long each series trains: its optimizer steps, and its passes over its data.

use std::collections::BTreeMap;

use prospect_data::{Manifest, SplitCounts, dry_run, prepared};
use prospect_runs::series_name;
use prospect_train::{FeedbackFormat, Objective};

use crate::{Plan, SweepError, plan::Dataset};

/// How long the runs of a series train on one dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// The series.
    pub series: String,
    /// The values on the x axis where this holds, in the order of the plan.
    pub xs: Vec<String>,
    /// Completions in one pass over its data: a pair is two.
    pub completions: usize,
    /// Completions in an optimizer step.
    pub batch_size: usize,
    /// Optimizer steps.
    pub steps: u64,
    /// Passes over its data.
    pub epochs: f64,
}

/// How long every series trains, by the runs of the first seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Budgets {
    /// The seed.
    pub seed: u64,
    /// Series and data.
    pub rows: Vec<Budget>,
    /// All values on the x axis.
    pub xs: Vec<String>,
    /// Values on the x axis at which series differ in optimizer steps.
    pub steps_differ: Vec<String>,
    /// Values on the x axis at which series differ in epochs.
    pub epochs_differ: Vec<String>,
    /// Why some datasets could not be counted.
    pub unknown: Vec<String>,
}

/// Completions that `objective` sees in one pass over a training split.
pub(crate) fn completions(train: SplitCounts, objective: &Objective) -> usize {
    let completions = match objective.feedback_format() {
        FeedbackFormat::Unpaired | FeedbackFormat::All => train.n_desirable + train.n_undesirable,
        FeedbackFormat::Paired => 2 * train.pairs,
        FeedbackFormat::Desirable => train.n_desirable,
    };
    completions as usize
}

/// The counts of a dataset, which need not be prepared.
pub(crate) fn counted(dataset: &Dataset) -> Result<Manifest, SweepError> {
    match prepared(&dataset.pipeline, &dataset.path)? {
        Some(manifest) => Ok(manifest),
        None => Ok(dry_run(&dataset.pipeline)?),
    }
}

/// Works out how long every series of `plan` trains, where settings are searched for in the last rung. Data that is not prepared is read and counted; rows that will turn out
/// too long for the model are counted too.
pub fn budgets(plan: &Plan) -> Budgets {
    let [x_axis, series_axis] = &plan.axes;
    let seed = plan.runs.first().map_or(0, |run| run.seed);
    let mut counts: BTreeMap<usize, Option<SplitCounts>> = BTreeMap::new();
    let (mut unknown, mut cells, mut xs) = (Vec::new(), Vec::new(), Vec::new());
    for run in plan.whole().iter().filter(|run| run.seed == seed) {
        let counted = counts.entry(run.dataset).or_insert_with(|| {
            let manifest = counted(&plan.datasets[run.dataset]);
            manifest.map_err(|error| unknown.push(error.to_string())).ok().map(|manifest| manifest.train)
        });
        let value = |key: &str| run.settings.get(key).map(series_name).unwrap_or_default();
        let x = value(&x_axis.key);
        if !xs.contains(&x) {
            xs.push(x.clone());
        }
        let Some(counts) = counted else { continue };
        let completions = completions(*counts, &run.train.objective);
        cells.push(Budget {
            series: value(&series_axis.key),
            xs: vec![x],
            completions,
            batch_size: run.train.batch_size,
            steps: run.train.steps(completions),
            epochs: run.train.epochs(completions),
        });
    }
    unknown.dedup();
    let differ = |differ: &dyn Fn(&Budget, &Budget) -> bool| -> Vec<String> {
        let at = |x: &&String| {
            let mut here = cells.iter().filter(|cell| cell.xs[0] == **x);
            let Some(first) = here.next() else { return false };
            here.any(|other| differ(first, other))
        };
        xs.iter().filter(at).cloned().collect()
    };
    Budgets {
        seed,
        steps_differ: differ(&|a, b| a.steps != b.steps),
        // A last batch may be short: what differs by less than a hundredth is the same.
        epochs_differ: differ(&|a, b| (a.epochs - b.epochs).abs() >= 0.01),
        rows: merged(cells),
        xs,
        unknown,
    }
}

/// Puts cells of a series that differ in x alone into one row.
fn merged(cells: Vec<Budget>) -> Vec<Budget> {
    let mut rows: Vec<Budget> = Vec::new();
    for cell in cells {
        let like = |row: &&mut Budget| {
            Budget { xs: Vec::new(), ..(**row).clone() } == Budget { xs: Vec::new(), ..cell.clone() }
        };
        match rows.iter_mut().find(like) {
            Some(row) => {
                let new: Vec<String> = cell.xs.into_iter().filter(|x| !row.xs.contains(x)).collect();
                row.xs.extend(new);
            }
            None => rows.push(cell),
        }
    }
    rows
}
