//! Rows of the table of runs.

use prospect_runs::RecordKind;
use serde::Serialize;

use crate::{
    format,
    sweep_data::{RunData, SweepData},
};

/// A cell of a sortable table.
#[derive(Serialize)]
pub(crate) struct SortableCell {
    shown: String,
    /// Sort key; empty if there is no value.
    value: String,
}

impl SortableCell {
    /// Creates a cell that shows `value` in a format, or a dash.
    pub(crate) fn new(value: Option<f64>, format: impl Fn(f64) -> String) -> Self {
        let none = || (String::from("–"), String::new());
        let (shown, value) = value.map_or_else(none, |value| (format(value), value.to_string()));
        Self { shown, value }
    }
}

/// A run or a shared stage.
#[derive(Serialize)]
pub(crate) struct RunRow {
    id: String,
    name: String,
    /// Values of the swept settings.
    settings: Vec<String>,
    seed: u64,
    steps: SortableCell,
    accuracy: SortableCell,
    margin: SortableCell,
    duration: SortableCell,
    /// Tokens per second.
    rate: SortableCell,
    state: &'static str,
    error: Option<String>,
    stop_reason: Option<String>,
}

impl RunRow {
    /// Creates the row of a run.
    pub(crate) fn new(sweep: &SweepData, run: &RunData) -> Self {
        let names = sweep.setting_names();
        let setting = |name: &String| run.planned.settings.get(name).map(format::setting).unwrap_or_default();
        let timed = run.status.as_ref().filter(|status| status.seconds > 0.0);
        let last = |metric| run.last(RecordKind::Eval, metric);
        let whole = |value: f64| format!("{value:.0}");
        Self {
            id: run.planned.id.clone(),
            name: sweep.run_name(run),
            settings: names.iter().map(setting).collect(),
            seed: run.planned.seed,
            steps: SortableCell::new(run.steps().map(|steps| steps as f64), whole),
            accuracy: SortableCell::new(run.headline(), format::percent),
            margin: SortableCell::new(last("eval_rewards/margins"), format::number),
            duration: SortableCell::new(timed.map(|status| status.seconds), format::duration),
            rate: SortableCell::new(timed.map(|status| status.tokens as f64 / status.seconds), whole),
            state: run.state_name(),
            error: run.error().map(str::to_owned),
            stop_reason: run.stop_reason().map(str::to_owned),
        }
    }
}
