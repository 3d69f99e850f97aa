//! The CSV tables: every number of the report, at full precision.

use prospect_runs::{Estimate, Measure, RecordKind, Verdict};

use crate::{
    findings, reference, rows, said,
    sweep::{Run, Sweep},
    text, wins,
};

/// A table with named columns.
pub(crate) struct Table {
    /// File name without ending.
    pub(crate) name: &'static str,
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    /// The table as RFC 4180 has it, with line feeds.
    pub(crate) fn csv(&self) -> String {
        let mut text = String::new();
        for row in std::iter::once(&self.columns).chain(&self.rows) {
            let cells: Vec<String> = row.iter().map(|cell| quoted(cell)).collect();
            text.push_str(&cells.join(","));
            text.push('\n');
        }
        text
    }
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

/// All tables of a sweep, `grids` among them; those that would be empty are left out, but for the first four.
pub(crate) fn all(sweep: &Sweep, grids: Vec<Table>) -> Vec<Table> {
    let mut tables = vec![points(sweep), contrasts(sweep), runs(sweep), curves(sweep)];
    let generations = said::table(sweep, run_columns(sweep, &said::COLUMNS), |run| run_cells(sweep, run));
    let more = grids.into_iter().chain([
        wins::table(sweep),
        reference::table(sweep),
        calibration(sweep),
        rewards(sweep),
        findings(sweep),
        trials(sweep),
        generations,
    ]);
    tables.extend(more.filter(|table| !table.rows.is_empty()));
    tables
}

pub(crate) fn columns(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub(crate) fn numbers(estimate: Estimate) -> [String; 3] {
    [estimate.value, estimate.low, estimate.high].map(|value| value.to_string())
}

pub(crate) fn points(sweep: &Sweep) -> Table {
    let row = |point: &prospect_runs::Point| {
        let mut row = vec![point.series.clone(), sweep.x.name(point.x), point.x.to_string()];
        row.extend(numbers(point.accuracy));
        row.extend(numbers(point.margin));
        row.extend(point.utility.map_or_else(|| vec![String::new(); 3], |utility| numbers(utility).to_vec()));
        let seeds: Vec<String> = point.seeds.iter().map(f64::to_string).collect();
        row.extend([point.steps.to_string(), seeds.len().to_string(), seeds.join(" ")]);
        row
    };
    Table {
        name: "points",
        columns: columns(&[
            "series",
            "x_name",
            "x",
            "accuracy",
            "accuracy_low",
            "accuracy_high",
            "margin",
            "margin_low",
            "margin_high",
            "utility",
            "utility_low",
            "utility_high",
            "steps",
            "seeds",
            "seed_accuracies",
        ]),
        rows: sweep.summary.iter().flat_map(|summary| &summary.points).map(row).collect(),
    }
}

fn contrasts(sweep: &Sweep) -> Table {
    let row = |contrast: &prospect_runs::Contrast| {
        let mut row = vec![
            contrast.series.clone(),
            contrast.baseline.clone(),
            sweep.x.name(contrast.x),
            contrast.x.to_string(),
            match contrast.measure {
                Measure::Accuracy => "accuracy",
                Measure::Utility => "utility",
            }
            .to_owned(),
        ];
        row.extend(numbers(contrast.difference));
        let verdict = match contrast.verdict {
            Verdict::Ahead => "ahead",
            Verdict::Behind => "behind",
            Verdict::CannotTell => "cannot_tell",
        };
        let needed = contrast.seeds_needed.map(|seeds| seeds.to_string()).unwrap_or_default();
        row.extend([contrast.p.to_string(), contrast.p_holm.to_string(), verdict.to_owned(), needed]);
        row.extend([contrast.seeds.to_string(), contrast.pairs.to_string()]);
        row
    };
    Table {
        name: "contrasts",
        columns: columns(&[
            "series",
            "baseline",
            "x_name",
            "x",
            "measure",
            "difference",
            "low",
            "high",
            "p",
            "p_holm",
            "verdict",
            "seeds_needed",
            "seeds",
            "pairs",
        ]),
        rows: sweep.summary.iter().flat_map(|summary| &summary.contrasts).map(row).collect(),
    }
}

/// The columns that say which run a row is about.
fn run_columns(sweep: &Sweep, more: &[&str]) -> Vec<String> {
    let mut names = columns(&["run"]);
    names.extend(sweep.setting_names());
    names.extend(columns(&["seed"]));
    names.extend(columns(more));
    names
}

fn run_cells(sweep: &Sweep, run: &Run) -> Vec<String> {
    let mut cells = vec![run.planned.id.clone()];
    let settings = sweep.setting_names();
    cells.extend(
        settings.iter().map(|name| run.planned.settings.get(name).map(text::setting).unwrap_or_default()),
    );
    cells.push(run.planned.seed.to_string());
    cells
}

fn runs(sweep: &Sweep) -> Table {
    let or_empty = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    let row = |run: &Run| {
        let mut row = run_cells(sweep, run);
        let data = sweep.experiment.data.get(run.planned.data);
        row.push(data.map(|data| data.path.display().to_string()).unwrap_or_default());
        row.push(run.steps().map(|steps| steps.to_string()).unwrap_or_default());
        row.push(or_empty(run.last(RecordKind::Eval, "eval_rewards/accuracies")));
        row.push(or_empty(run.last(RecordKind::Eval, "eval_rewards/margins")));
        row.push(run.pairs.len().to_string());
        let status = run.status.as_ref();
        row.push(or_empty(status.map(|status| status.seconds)));
        row.push(status.map(|status| status.tokens.to_string()).unwrap_or_default());
        row.push(run.state().to_owned());
        row.push(run.error().or(run.stopped()).unwrap_or_default().to_owned());
        row
    };
    let more = [
        "data",
        "steps",
        "eval_accuracy",
        "eval_margin",
        "eval_pairs",
        "seconds",
        "tokens",
        "state",
        "error",
    ];
    Table { name: "runs", columns: run_columns(sweep, &more), rows: sweep.runs.iter().map(row).collect() }
}

fn curves(sweep: &Sweep) -> Table {
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
    Table { name: "curves", columns: run_columns(sweep, &["step", "metric", "value"]), rows }
}

fn calibration(sweep: &Sweep) -> Table {
    let mut rows = Vec::new();
    for point in sweep.summary.iter().flat_map(|summary| &summary.points) {
        for bin in point.calibration.iter().flat_map(|calibration| &calibration.bins) {
            let mut row = vec![point.series.clone(), sweep.x.name(point.x), point.x.to_string()];
            row.extend([bin.low, bin.high, bin.confidence, bin.accuracy].map(|value| value.to_string()));
            row.push(bin.pairs.to_string());
            rows.push(row);
        }
    }
    let names = ["series", "x_name", "x", "low", "high", "confidence", "accuracy", "pairs"];
    Table { name: "calibration", columns: columns(&names), rows }
}

/// The rewards of every held-out completion.
fn rewards(sweep: &Sweep) -> Table {
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
    let more = ["pair_id", "source", "domain", "reward_chosen", "reward_rejected"];
    Table { name: "rewards", columns: run_columns(sweep, &more), rows }
}

fn findings(sweep: &Sweep) -> Table {
    let row = |finding: &prospect_runs::Finding| {
        let [from, to] = finding.steps.map(|step| step.to_string());
        let sign = findings::title(finding.sign).to_owned();
        vec![finding.run.clone(), sign, from, to, finding.evidence.clone(), finding.advice.clone()]
    };
    Table {
        name: "diagnosis",
        columns: columns(&["run", "sign", "from_step", "to_step", "evidence", "advice"]),
        rows: sweep.summary.iter().flat_map(|summary| &summary.findings).map(row).collect(),
    }
}

/// The trials of a search for settings.
fn trials(sweep: &Sweep) -> Table {
    let row = |trial: &prospect_runs::TrialResult| {
        vec![
            trial.series.clone(),
            rows::settings(sweep, trial),
            trial.rung.to_string(),
            trial.accuracy.to_string(),
            trial.seeds.to_string(),
            if trial.won { "yes" } else { "no" }.to_owned(),
        ]
    };
    Table {
        name: "trials",
        columns: columns(&["series", "settings", "rung", "accuracy_to_choose_by", "seeds", "won"]),
        rows: sweep.summary.iter().flat_map(|summary| &summary.trials).map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_with_commas_and_quotes_survive() {
        let table =
            Table { name: "t", columns: columns(&["a", "b"]), rows: vec![columns(&["x, y", "say \"so\""])] };
        assert_eq!(table.csv(), "a,b\n\"x, y\",\"say \"\"so\"\"\"\n");
    }
}
