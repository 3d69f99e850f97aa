//! Rows of the table of hyperparameter search trials.

use prospect_runs::TrialResult;
use serde::Serialize;

use super::runs::SortableCell;
use crate::{format, sweep_data::SweepData};

/// A trial of the hyperparameter search.
#[derive(Serialize)]
pub(crate) struct TrialRow {
    series: String,
    settings: String,
    rung: usize,
    accuracy: SortableCell,
    seeds: usize,
    won: bool,
}

/// Returns the trials, in the order of the summary.
pub(crate) fn rows(sweep: &SweepData) -> Vec<TrialRow> {
    let row = |trial: &TrialResult| TrialRow {
        series: trial.series.clone(),
        settings: settings(sweep, trial),
        rung: trial.rung,
        accuracy: SortableCell::new(Some(trial.accuracy), format::percent),
        seeds: trial.seeds,
        won: trial.won,
    };
    sweep.summary.iter().flat_map(|summary| &summary.trials).map(row).collect()
}

/// Returns the settings of a trial as text.
///
/// The series is omitted, and so is x if the sweep has only one x value.
pub(crate) fn settings(sweep: &SweepData, trial: &TrialResult) -> String {
    let experiment = &sweep.experiment;
    let distinguishes =
        |key: &str| key != experiment.series.key && (key != experiment.x.key || sweep.x.values().len() > 1);
    let settings = trial.settings.iter().filter(|(key, _)| distinguishes(key));
    settings.map(|(key, value)| format!("{key} = {}", format::setting(value))).collect::<Vec<_>>().join(", ")
}
