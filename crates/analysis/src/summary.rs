//! Summary of a sweep: estimates, differences and a verdict.

mod contrasts;
mod finished_runs;
mod trials;
mod verdict;
mod win_rates;

use prospect_core::sample::mean;
use prospect_runs::{Experiment, Finding, PairOutcome, Point, RecordKind, Summary, SweepDir};

use self::{
    contrasts::{EFFECT, adjust, compare},
    finished_runs::{CellKey, FinishedRun, XValues, read_cells, utilities, values_of_pairs},
    trials::{selected_settings, trial_results},
    verdict::verdict,
    win_rates::win_rates,
};
use crate::{AnalysisError, calibration, diagnose, stats::estimate};

/// Method of the estimates and differences, as reports print it.
const METHOD: &str = "Accuracy is the share of held-out pairs whose preferred completion has the larger reward \
    (log-ratio to the reference); ties count half. Intervals are 95 % intervals over held-out prompts and \
    seeds together, from the variance components of both; differences are paired by prompt and seed. \
    Two seeds carry little information about the variance between seeds, and intervals are \
    accordingly wide: three seeds or more narrow them much. Binary outcomes include one additional \
    prompt with the opposite result, since agreement on a sample of prompts is not agreement on all. \
    A difference is called significant if its p-value, adjusted for all comparisons of the sweep \
    (Holm), is below 0.05; otherwise it is inconclusive. Seeds change the adapter's initialisation, \
    the data order and which rows are kept or flipped, never the held-out pairs.";

/// Reads the finished runs of a sweep, and writes and returns its summary.
pub fn summarise(sweep: &SweepDir) -> Result<Summary, AnalysisError> {
    let experiment = sweep.experiment()?;
    let x_values = XValues::new(&experiment);
    let cells = read_cells(sweep, &experiment, &x_values)?;
    let mut points = Vec::new();
    let mut contrasts = Vec::new();
    for (cell, runs) in &cells {
        let x = x_values.numbers[cell.x];
        points.push(point(&experiment, &cell.series, x, runs)?);
        let baseline = CellKey { series: experiment.baseline.clone(), x: cell.x };
        if *cell != baseline
            && let Some(baseline) = cells.get(&baseline)
        {
            contrasts.extend(compare(&experiment, &cell.series, x, runs, baseline)?);
        }
    }
    adjust(&mut contrasts);
    let oracle_accuracy = experiment.data.first().and_then(|data| data.truth().oracle_accuracy);
    let sentences = [
        verdict(&experiment, &x_values, &contrasts),
        selected_settings(&experiment),
        stopped(sweep, &experiment),
    ];
    let summary = Summary {
        verdict: sentences.concat(),
        method: METHOD.to_owned(),
        points,
        contrasts,
        win_rates: win_rates(&cells, &x_values.numbers)?,
        effect: EFFECT,
        findings: findings(sweep, &experiment)?,
        trials: trial_results(sweep, &experiment)?,
        oracle_accuracy,
        start_accuracy: start_accuracy(sweep, &experiment)?,
    };
    sweep.write_summary(&summary)?;
    Ok(summary)
}

/// Estimates of one series at one x.
fn point(
    experiment: &Experiment,
    series: &str,
    x: f64,
    runs: &[FinishedRun<'_>],
) -> Result<Point, AnalysisError> {
    let runs: Vec<_> = runs.iter().collect();
    let (low, high) = utility_range(experiment, &runs);
    let utility = utilities(&runs).map(|utilities| estimate(&utilities)).transpose()?;
    let accuracies = |run: &FinishedRun<'_>| mean(run.pairs.iter().map(PairOutcome::accuracy)).unwrap_or(0.0);
    Ok(Point {
        series: series.to_owned(),
        x,
        accuracy: estimate(&values_of_pairs(&runs, |_, pair| pair.accuracy()))?.clamped(0.0, 1.0),
        seeds: runs.iter().map(|run| accuracies(run)).collect(),
        utility: utility.map(|utility| utility.clamped(low, high)),
        margin: estimate(&values_of_pairs(&runs, |beta, pair| beta * (pair.chosen - pair.rejected)))?,
        steps: runs.first().map_or(0, |run| run.steps),
        calibration: calibration(runs.iter().flat_map(|run| run.pairs.iter().map(|pair| (run.beta, pair)))),
    })
}

/// Sentence about runs that were stopped early; empty without any. Estimates leave them out.
fn stopped(sweep: &SweepDir, experiment: &Experiment) -> String {
    let runs = experiment.all_runs();
    match runs.iter().filter(|run| sweep.run(&run.id).is_stopped()).count() {
        0 => String::new(),
        stopped => {
            format!(" {stopped} of {} runs were stopped early and are left out of all estimates.", runs.len())
        }
    }
}

/// Probable faults of all runs, unfinished ones included.
fn findings(sweep: &SweepDir, experiment: &Experiment) -> Result<Vec<Finding>, AnalysisError> {
    let mut findings = Vec::new();
    for run in &experiment.runs {
        let diagnoses = diagnose(&sweep.run(&run.id).metrics()?);
        findings.extend(diagnoses.into_iter().map(|diagnosis| Finding {
            run: run.id.clone(),
            sign: diagnosis.sign,
            evidence: diagnosis.evidence,
            steps: diagnosis.steps,
            advice: diagnosis.advice.to_owned(),
        }));
    }
    Ok(findings)
}

/// Accuracy of the model before training by its own log-probs, from the first evaluation at step 0.
fn start_accuracy(sweep: &SweepDir, experiment: &Experiment) -> Result<Option<f64>, AnalysisError> {
    for run in &experiment.runs {
        let metrics = sweep.run(&run.id).metrics()?;
        if let Some(first) = metrics.iter().find(|record| record.kind == RecordKind::Eval && record.step == 0)
        {
            return Ok(first.values.get("eval_logps/accuracies").copied());
        }
    }
    Ok(None)
}

/// Smallest and largest utility in the runs' datasets; unbounded if the datasets have none.
fn utility_range(experiment: &Experiment, runs: &[&FinishedRun<'_>]) -> (f64, f64) {
    let ranges = runs.iter().filter_map(|run| experiment.data.get(run.planned.data)?.truth().utility_range);
    let union = |(low, high): (f64, f64), range: (f64, f64)| (low.min(range.0), high.max(range.1));
    ranges.reduce(union).unwrap_or((f64::NEG_INFINITY, f64::INFINITY))
}
