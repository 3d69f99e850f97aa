//! Tables of the summary: estimates, differences, win rates, findings and trials.

use prospect_runs::{
    Contrast, Estimate, Finding, Measure, Point, PublishedResults, ThumbEstimates, TrialResult, WinRate,
    WinRateContrast,
};
use serde_json::Value;

use super::{CsvTable, columns, numbers};
use crate::{
    format,
    sections::{
        findings, thumbs, trials,
        win_rates::{self, matchups},
    },
    sweep_data::SweepData,
};

/// Returns value, low and high; empty cells without an estimate.
fn optional_numbers(estimate: Option<Estimate>) -> [String; 3] {
    estimate.map_or_else(Default::default, numbers)
}

/// Returns the cells that identify a point.
fn point_cells(sweep: &SweepData, point: &Point) -> Vec<String> {
    vec![point.series.clone(), sweep.x.name(point.x), point.x.to_string()]
}

/// Returns the columns that identify a point, followed by `others`.
fn point_columns(others: &[&str]) -> Vec<String> {
    let mut names = columns(&["series", "x_name", "x"]);
    names.extend(columns(others));
    names
}

/// Returns the measures of held-out thumbs.
pub(super) fn thumbs(sweep: &SweepData) -> CsvTable {
    let row = |(point, thumbs): (&Point, &ThumbEstimates)| {
        let mut row = point_cells(sweep, point);
        for estimate in [
            Some(thumbs.auc),
            thumbs.auc_within_prompt,
            Some(thumbs.balanced_accuracy),
            thumbs.log_loss,
            thumbs.brier_skill,
        ] {
            row.extend(optional_numbers(estimate));
        }
        let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        row.extend([number(thumbs.length_auc), number(thumbs.prompt_auc)]);
        row.extend([thumbs.desirable, thumbs.undesirable, thumbs.prompts].map(|count| count.to_string()));
        row.push(thumbs.groups.map(|groups| groups.to_string()).unwrap_or_default());
        row
    };
    let measures = ["auc", "auc_within_prompt", "balanced_accuracy", "log_loss", "brier_skill"];
    let mut names = point_columns(&[]);
    names.extend(
        measures.iter().flat_map(|measure| ["", "_low", "_high"].map(|end| format!("{measure}{end}"))),
    );
    names.extend(columns(&["length_auc", "prompt_auc", "desirable", "undesirable", "prompts", "groups"]));
    CsvTable { name: "thumbs", columns: names, rows: thumbs::points(sweep).map(row).collect() }
}

/// Returns the bins of all reliability curves.
pub(super) fn reliability(sweep: &SweepData) -> CsvTable {
    let mut rows = Vec::new();
    for (point, thumbs) in thumbs::points(sweep) {
        for bin in &thumbs.reliability {
            let mut row = point_cells(sweep, point);
            row.extend([bin.low, bin.high, bin.probability, bin.desirable].map(|value| value.to_string()));
            row.push(bin.thumbs.to_string());
            rows.push(row);
        }
    }
    let others = ["low", "high", "probability", "desirable", "thumbs"];
    CsvTable { name: "reliability", columns: point_columns(&others), rows }
}

/// Returns the estimates of each series and x value.
pub(super) fn points(sweep: &SweepData) -> CsvTable {
    let row = |point: &Point| {
        let mut row = point_cells(sweep, point);
        row.extend(optional_numbers(point.accuracy));
        row.extend(numbers(point.margin));
        row.extend(optional_numbers(point.utility));
        row.extend(optional_numbers(point.smoothed_accuracy));
        row.extend(optional_numbers(point.own_accuracy));
        let seeds: Vec<String> = point.seeds.iter().map(f64::to_string).collect();
        row.extend([point.steps.to_string(), seeds.len().to_string(), seeds.join(" ")]);
        row
    };
    CsvTable {
        name: "points",
        columns: point_columns(&[
            "accuracy",
            "accuracy_low",
            "accuracy_high",
            "margin",
            "margin_low",
            "margin_high",
            "utility",
            "utility_low",
            "utility_high",
            "smoothed_accuracy",
            "smoothed_accuracy_low",
            "smoothed_accuracy_high",
            "own_accuracy",
            "own_accuracy_low",
            "own_accuracy_high",
            "steps",
            "seeds",
            "seed_accuracies",
        ]),
        rows: sweep.summary.iter().flat_map(|summary| &summary.points).map(row).collect(),
    }
}

/// Returns the differences from the baseline.
pub(super) fn contrasts(sweep: &SweepData) -> CsvTable {
    let row = |contrast: &Contrast| {
        let mut row = vec![
            contrast.series.clone(),
            contrast.baseline.clone(),
            sweep.x.name(contrast.x),
            contrast.x.to_string(),
            contrast.measure.to_string(),
        ];
        row.extend(numbers(contrast.difference));
        let detectable = contrast.detectable.map(|difference| difference.to_string()).unwrap_or_default();
        row.extend([contrast.p, contrast.p_holm].map(|p| p.to_string()));
        row.extend([contrast.verdict.to_string(), detectable]);
        row.extend([contrast.seeds.to_string(), contrast.pairs.to_string()]);
        row.extend(contrast.steps.map(|steps| steps.to_string()));
        row.extend(optional_numbers(contrast.smoothed));
        row.extend([contrast.is_primary.to_string(), contrast.identical_to.clone().unwrap_or_default()]);
        row.extend(contrast.adjusted.map_or_else(Default::default, |Estimate { low, high, .. }| {
            [low, high].map(|end| end.to_string())
        }));
        row
    };
    CsvTable {
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
            "detectable",
            "seeds",
            "pairs",
            "steps",
            "baseline_steps",
            "smoothed",
            "smoothed_low",
            "smoothed_high",
            "primary",
            "identical_to",
            "adjusted_low",
            "adjusted_high",
        ]),
        rows: sweep.summary.iter().flat_map(|summary| &summary.contrasts).map(row).collect(),
    }
}

/// Returns the win rates of all judges.
pub(super) fn win_rates(sweep: &SweepData) -> CsvTable {
    let row = |rate: &WinRate| {
        let mut row = vec![
            rate.judge.clone(),
            win_rates::opponent_name(sweep, &rate.opponent),
            rate.series.clone(),
            sweep.x.name(rate.x),
            rate.x.to_string(),
        ];
        row.extend(numbers(rate.rate));
        row.extend(optional_numbers(rate.decided));
        row.extend(optional_numbers(rate.wins_of_all));
        row.extend(optional_numbers(rate.length_controlled));
        let characters = rate.characters.map_or_else(Default::default, |both| both.map(|n| n.to_string()));
        row.extend(characters);
        row.extend([rate.wins, rate.ties, rate.losses, rate.unread].map(|count| count.to_string()));
        row.extend([rate.p, rate.p_holm].map(|p| p.to_string()));
        row
    };
    CsvTable {
        name: "win_rates",
        columns: columns(&[
            "judge",
            "opponent",
            "series",
            "x_name",
            "x",
            "rate",
            "low",
            "high",
            "decided",
            "decided_low",
            "decided_high",
            "wins_of_all",
            "wins_of_all_low_90",
            "wins_of_all_high_90",
            "length_controlled",
            "length_controlled_low",
            "length_controlled_high",
            "characters",
            "characters_opponent",
            "wins",
            "ties",
            "losses",
            "unread",
            "p",
            "p_holm",
        ]),
        rows: matchups(sweep).iter().flat_map(|matchup| matchup.rates.iter().copied().map(row)).collect(),
    }
}

/// Returns the differences of win rates from the baseline's.
pub(super) fn win_rate_contrasts(sweep: &SweepData) -> CsvTable {
    let row = |contrast: &WinRateContrast| {
        let mut row = vec![
            contrast.judge.clone(),
            win_rates::opponent_name(sweep, &contrast.opponent),
            contrast.series.clone(),
            contrast.baseline.clone(),
            sweep.x.name(contrast.x),
            contrast.x.to_string(),
        ];
        row.extend(numbers(contrast.difference));
        row.extend([contrast.p, contrast.p_holm].map(|p| p.to_string()));
        row.push(contrast.verdict.to_string());
        row.extend([contrast.seeds, contrast.prompts].map(|count| count.to_string()));
        row
    };
    CsvTable {
        name: "win_rate_contrasts",
        columns: columns(&[
            "judge",
            "opponent",
            "series",
            "baseline",
            "x_name",
            "x",
            "difference",
            "low",
            "high",
            "p",
            "p_holm",
            "verdict",
            "seeds",
            "prompts",
        ]),
        rows: sweep.summary.iter().flat_map(|summary| &summary.win_rate_contrasts).map(row).collect(),
    }
}

/// Returns all published results, also at x values that the sweep does not have.
pub(super) fn reference(sweep: &SweepData) -> CsvTable {
    let rows = |reference: &PublishedResults| {
        let measure = reference.measure.clone().unwrap_or_else(|| Measure::Accuracy.to_string());
        let series_rows = |(series, points): (&String, &Vec<(Value, f64)>)| {
            let row = |(x, y): &(Value, f64)| {
                let (x, y) = (format::setting(x), y.to_string());
                vec![series.clone(), x, y, measure.clone(), reference.label.clone()]
            };
            points.iter().map(row).collect::<Vec<_>>()
        };
        reference.series.iter().flat_map(series_rows).collect::<Vec<_>>()
    };
    CsvTable {
        name: "reference",
        columns: columns(&["series", "x", "value", "measure", "label"]),
        rows: sweep
            .experiment
            .reference
            .iter()
            .chain(&sweep.experiment.more_references)
            .flat_map(rows)
            .collect(),
    }
}

/// Returns the bins of all calibration curves.
pub(super) fn calibration(sweep: &SweepData) -> CsvTable {
    let mut rows = Vec::new();
    for point in sweep.summary.iter().flat_map(|summary| &summary.points) {
        for bin in point.calibration.iter().flat_map(|calibration| &calibration.bins) {
            let mut row = point_cells(sweep, point);
            row.extend([bin.low, bin.high, bin.confidence, bin.accuracy].map(|value| value.to_string()));
            row.push(bin.pairs.to_string());
            rows.push(row);
        }
    }
    let others = ["low", "high", "confidence", "accuracy", "pairs"];
    CsvTable { name: "calibration", columns: point_columns(&others), rows }
}

/// Returns the findings of the diagnosis.
pub(super) fn findings(sweep: &SweepData) -> CsvTable {
    let row = |finding: &Finding| {
        let [from, to] = finding.steps.map(|step| step.to_string());
        let sign = findings::title(finding.sign).to_owned();
        vec![finding.run.clone(), sign, from, to, finding.evidence.clone(), finding.advice.clone()]
    };
    CsvTable {
        name: "diagnosis",
        columns: columns(&["run", "sign", "from_step", "to_step", "evidence", "advice"]),
        rows: sweep.summary.iter().flat_map(|summary| &summary.findings).map(row).collect(),
    }
}

/// Returns the trials of the hyperparameter search.
pub(super) fn trials(sweep: &SweepData) -> CsvTable {
    let row = |trial: &TrialResult| {
        vec![
            trial.series.clone(),
            trials::settings(sweep, trial),
            trial.rung.to_string(),
            trial.accuracy.to_string(),
            trial.seeds.to_string(),
            if trial.won { "yes" } else { "no" }.to_owned(),
        ]
    };
    CsvTable {
        name: "trials",
        columns: columns(&["series", "settings", "rung", "accuracy_to_choose_by", "seeds", "won"]),
        rows: sweep.summary.iter().flat_map(|summary| &summary.trials).map(row).collect(),
    }
}
