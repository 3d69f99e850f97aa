//! Summary of a sweep: estimates, differences and a verdict.

mod clustered;
mod contrasts;
mod finished_runs;
mod thumbs;
mod trials;
mod verdict;
mod win_rates;

use prospect_core::sample::mean;
use prospect_runs::{
    DataUse, Experiment, Finding, Measure, PairOutcome, Point, RecordKind, Summary, SweepDir,
};

use self::{
    clustered::Clustered,
    contrasts::{EFFECT, adjust, compare},
    finished_runs::{CellKey, FinishedRun, XValues, read_cells, utilities},
    thumbs::thumb_estimates,
    trials::{selected_settings, trial_results},
    verdict::verdict,
    win_rates::win_rates,
};
use crate::{
    AnalysisError, calibration, diagnose,
    stats::estimate,
    thumbs::{auc, auc_terms, margin_terms, scores},
};

/// Method of the estimates and differences, as reports print it.
const METHOD: &str = "Accuracy is the share of held-out pairs whose preferred completion has the larger reward \
    (log-ratio to the reference); ties count half. Without held-out pairs, the AUC takes its place: the probability \
    that a random thumb up has a larger reward than a random thumb down. Intervals are 95 % intervals over held-out prompts and \
    seeds together, from the variance components of both; differences are paired by prompt and seed. \
    Two seeds carry little information about the variance between seeds, and intervals are \
    accordingly wide: three seeds or more narrow them much. Binary outcomes include one additional \
    prompt with the opposite result, since agreement on a sample of prompts is not agreement on all. \
    A difference is called significant if its p-value, adjusted for all comparisons of the sweep \
    (Holm), is below 0.05; otherwise it is inconclusive. Seeds change the adapter's initialisation, \
    the data order and which rows are kept or flipped, never the held-out pairs.";

/// Verdict on runs without held-out pairs or thumbs of both kinds.
const NOT_RANKED: &str = "Rewards cannot be ranked: the held-out feedback has no pairs, and its thumbs are all of one \
    kind. Hold out more of it (split.test_fraction).";

/// Reads the finished runs of a sweep, and writes and returns its summary.
pub fn summarise(sweep: &SweepDir) -> Result<Summary, AnalysisError> {
    let experiment = sweep.experiment()?;
    let x_values = XValues::new(&experiment);
    let cells = read_cells(sweep, &experiment, &x_values)?;
    let mut points = Vec::new();
    let mut contrasts = Vec::new();
    for (cell, runs) in &cells {
        let x = x_values.numbers[cell.x];
        points.extend(point(&experiment, &cell.series, x, runs)?);
        let baseline = CellKey { series: experiment.baseline.clone(), x: cell.x };
        if *cell != baseline
            && let Some(baseline) = cells.get(&baseline)
        {
            contrasts.extend(compare(&experiment, &cell.series, x, runs, baseline)?);
        }
    }
    adjust(&mut contrasts);
    let has_pairs = points.iter().any(|point| point.accuracy.is_some());
    let truth = experiment.data.first().map(DataUse::truth).unwrap_or_default();
    let oracle_accuracy = if has_pairs { truth.oracle_accuracy } else { truth.oracle_auc };
    let result = if points.is_empty() && !cells.is_empty() {
        NOT_RANKED.to_owned()
    } else {
        verdict(&experiment, &x_values, &contrasts)
    };
    let sentences = [result, selected_settings(&experiment), stopped(sweep, &experiment)];
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

/// Estimates of one series at one x; None if its held-out feedback cannot be ranked.
fn point(
    experiment: &Experiment,
    series: &str,
    x: f64,
    runs: &[FinishedRun<'_>],
) -> Result<Option<Point>, AnalysisError> {
    let runs: Vec<_> = runs.iter().collect();
    let (low, high) = utility_range(experiment, &runs);
    let utility = utilities(&runs).map(|utilities| estimate(&utilities)).transpose()?;
    let has_pairs = runs.iter().all(|run| !run.pairs.is_empty());
    let accuracy = has_pairs.then(|| Clustered::pairs(&runs, |_, pair| pair.accuracy()).estimate());
    let margin = if has_pairs {
        Clustered::pairs(&runs, |beta, pair| beta * (pair.chosen - pair.rejected)).estimate()?
    } else {
        let terms = |run: &FinishedRun<'_>| {
            Some(margin_terms(&run.thumbs)?.into_iter().map(|term| run.beta * term).collect())
        };
        match Clustered::thumbs(&runs, terms) {
            Some(margins) => margins.estimate()?,
            None => return Ok(None),
        }
    };
    let of_seed = |run: &&FinishedRun<'_>| {
        if has_pairs { mean(run.pairs.iter().map(PairOutcome::accuracy)) } else { auc(&scores(&run.thumbs)) }
    };
    Ok(Some(Point {
        series: series.to_owned(),
        x,
        accuracy: accuracy.transpose()?.map(|accuracy| accuracy.clamped(0.0, 1.0)),
        thumbs: thumb_estimates(&runs)?,
        seeds: runs.iter().filter_map(of_seed).collect(),
        utility: utility.map(|utility| utility.clamped(low, high)),
        margin,
        steps: runs.first().map_or(0, |run| run.steps),
        calibration: calibration(runs.iter().flat_map(|run| run.pairs.iter().map(|pair| (run.beta, pair)))),
    }))
}

/// Observations of the headline measure: preference accuracy, or the AUC of thumbs if there are no
/// pairs. None if there are neither.
fn headline<'a>(runs: &[&'a FinishedRun<'_>]) -> Option<(Measure, Clustered<'a>)> {
    if runs.iter().all(|run| !run.pairs.is_empty()) {
        return Some((Measure::Accuracy, Clustered::pairs(runs, |_, pair| pair.accuracy())));
    }
    Some((Measure::Auc, Clustered::thumbs(runs, |run| auc_terms(&scores(&run.thumbs)))?))
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
