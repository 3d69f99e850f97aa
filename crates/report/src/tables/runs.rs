//! Tables of single runs: overview, metrics, rewards and generations.

use prospect_runs::RecordKind;

use super::{CsvTable, columns};
use crate::{
    format,
    sweep_data::{RunData, SweepData},
};

/// Returns the columns that identify a run, followed by `others`.
fn run_columns(sweep: &SweepData, others: &[&str]) -> Vec<String> {
    let mut names = columns(&["run"]);
    names.extend(sweep.setting_names());
    names.extend(columns(&["seed"]));
    names.extend(columns(others));
    names
}

/// Returns the cells that identify a run.
fn run_cells(sweep: &SweepData, run: &RunData) -> Vec<String> {
    let mut cells = vec![run.planned.id.clone()];
    let setting = |name: &String| run.planned.settings.get(name).map(format::setting).unwrap_or_default();
    cells.extend(sweep.setting_names().iter().map(setting));
    cells.push(run.planned.seed.to_string());
    cells
}

/// Returns one row for each run.
pub(super) fn runs(sweep: &SweepData) -> CsvTable {
    let or_empty = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    let row = |run: &RunData| {
        let mut row = run_cells(sweep, run);
        let data = sweep.experiment.data.get(run.planned.data);
        row.push(data.map(|data| data.path.display().to_string()).unwrap_or_default());
        row.push(run.steps().map(|steps| steps.to_string()).unwrap_or_default());
        row.push(or_empty(run.last(RecordKind::Eval, "eval_rewards/accuracies")));
        row.push(or_empty(run.last(RecordKind::Eval, "eval_rewards/margins")));
        row.push(run.pairs.len().to_string());
        row.push(or_empty(run.last(RecordKind::Eval, "eval_thumbs/auc")));
        row.push(run.thumbs.len().to_string());
        let status = run.status.as_ref();
        row.push(or_empty(status.map(|status| status.seconds)));
        row.push(status.map(|status| status.tokens.to_string()).unwrap_or_default());
        row.push(run.state_name().to_owned());
        row.push(run.error().or(run.stop_reason()).unwrap_or_default().to_owned());
        row
    };
    let others = [
        "data",
        "steps",
        "eval_accuracy",
        "eval_margin",
        "eval_pairs",
        "eval_auc",
        "eval_thumbs",
        "seconds",
        "tokens",
        "state",
        "error",
    ];
    CsvTable {
        name: "runs",
        columns: run_columns(sweep, &others),
        rows: sweep.runs.iter().map(row).collect(),
    }
}

/// Returns every metric of every run, one value per row.
pub(super) fn curves(sweep: &SweepData) -> CsvTable {
    let mut rows = Vec::new();
    for run in &sweep.runs {
        let cells = run_cells(sweep, run);
        for record in &run.metrics {
            for (metric, value) in &record.values {
                let mut row = cells.clone();
                row.extend([record.step.to_string(), metric.clone(), value.to_string()]);
                rows.push(row);
            }
        }
    }
    CsvTable { name: "curves", columns: run_columns(sweep, &["step", "metric", "value"]), rows }
}

/// Returns the rewards of every held-out pair.
pub(super) fn rewards(sweep: &SweepData) -> CsvTable {
    let mut rows = Vec::new();
    for run in &sweep.runs {
        let cells = run_cells(sweep, run);
        for pair in &run.pairs {
            let mut row = cells.clone();
            row.extend([pair.pair_id.clone(), pair.source.clone(), pair.domain.clone()]);
            row.extend([pair.chosen, pair.rejected].map(|ratio| (run.beta * ratio).to_string()));
            rows.push(row);
        }
    }
    let others = ["pair_id", "source", "domain", "reward_chosen", "reward_rejected"];
    CsvTable { name: "rewards", columns: run_columns(sweep, &others), rows }
}

/// Returns the reward of every held-out thumb.
pub(super) fn thumb_rewards(sweep: &SweepData) -> CsvTable {
    let mut rows = Vec::new();
    for run in &sweep.runs {
        let cells = run_cells(sweep, run);
        for thumb in &run.thumbs {
            let mut row = cells.clone();
            row.extend([
                thumb.id.clone(),
                thumb.prompt_id.clone(),
                thumb.source.clone(),
                thumb.domain.clone(),
            ]);
            row.extend([thumb.group.clone().unwrap_or_default(), thumb.desirable.to_string()]);
            row.extend([thumb.tokens.to_string(), (run.beta * thumb.log_ratio).to_string()]);
            row.push(thumb.probability.map(|probability| probability.to_string()).unwrap_or_default());
            rows.push(row);
        }
    }
    let others =
        ["id", "prompt_id", "source", "domain", "group", "desirable", "tokens", "reward", "probability"];
    CsvTable { name: "thumb_rewards", columns: run_columns(sweep, &others), rows }
}

/// Returns every generation of every run.
pub(super) fn generations(sweep: &SweepData) -> CsvTable {
    let mut rows = Vec::new();
    for run in &sweep.runs {
        let cells = run_cells(sweep, run);
        for generation in &run.generations {
            let mut row = cells.clone();
            row.extend([
                generation.prompt_id.clone(),
                generation.mode.to_string(),
                generation.tokens.to_string(),
                generation.ended.to_string(),
                generation.utility.map(|utility| utility.to_string()).unwrap_or_default(),
                generation.prompt.clone(),
                generation.completion.clone(),
                generation.chosen.clone().unwrap_or_default(),
            ]);
            rows.push(row);
        }
    }
    let others = ["prompt_id", "mode", "tokens", "ended", "utility", "prompt", "completion", "chosen"];
    CsvTable { name: "generations", columns: run_columns(sweep, &others), rows }
}
