//! The answer: estimates, differences and a verdict.

mod cells;
mod contrasts;
mod verdict;

use prospect_eval::{calibration, diagnose, stats::estimate};
use prospect_runs::{Estimate, Experiment, Finding, Kind, PairOutcome, Point, Summary, SweepDir};
use serde_json::Value;

pub(crate) use cells::{Cells, Judged};
pub(crate) use contrasts::reading;

use self::{
    cells::{cells, outcomes, utilities, x_values},
    contrasts::{EFFECT, compare, judge},
    verdict::verdict,
};
use crate::{
    SweepError,
    search::results::{found, trial_results},
    win_rates::win_rates,
};

/// How estimates and differences are made, as the report says it.
const METHOD: &str = "Accuracy is the share of held-out pairs whose preferred completion has the larger reward (log-ratio to the reference), ties counting half. Intervals are 95 % intervals over held-out prompts and seeds together, from the variance that each brings; differences are paired by prompt and seed. Two seeds say little of how seeds differ, and intervals are as wide as that is: three seeds or more narrow them much. Verdicts count one more prompt that goes the other way, since to agree on some prompts is not to agree on all. A difference is called one if its p-value, adjusted for all comparisons of the sweep (Holm), is below 0.05; else the data cannot tell. Seeds change the adapter's start, the data order and which rows are kept or flipped, never the held-out pairs.";

/// Reads the finished runs of a sweep and writes and returns its summary.
pub fn summarise(sweep: &SweepDir) -> Result<Summary, SweepError> {
    let experiment = sweep.experiment()?;
    let xs = x_values(&experiment);
    let cells = cells(sweep, &experiment, &xs)?;
    let mut points = Vec::new();
    let mut contrasts = Vec::new();
    for ((series, x), judged) in &cells {
        let runs: Vec<_> = judged.iter().collect();
        points.push(Point {
            series: series.clone(),
            x: xs.numbers[*x],
            accuracy: share(estimate(&outcomes(&runs, |_, pair| pair.accuracy()))?),
            seeds: runs.iter().map(|judged| mean(judged.pairs.iter().map(PairOutcome::accuracy))).collect(),
            utility: utilities(&runs)
                .map(|utilities| estimate(&utilities))
                .transpose()?
                .map(|utility| within(utility, utility_range(&experiment, &runs))),
            margin: estimate(&outcomes(&runs, |beta, pair| beta * (pair.chosen - pair.rejected)))?,
            steps: runs.first().map_or(0, |judged| judged.steps),
            calibration: calibration(
                runs.iter().flat_map(|judged| judged.pairs.iter().map(|pair| (judged.beta, pair))),
            ),
        });
        if *series != experiment.baseline
            && let Some(baseline) = cells.get(&(experiment.baseline.clone(), *x))
        {
            contrasts.extend(compare(&experiment, series, xs.numbers[*x], judged, baseline)?);
        }
    }
    judge(&mut contrasts);
    let oracle_accuracy =
        experiment.data.first().and_then(|data| data.manifest.get("oracle_accuracy")).and_then(Value::as_f64);
    let summary = Summary {
        verdict: verdict(&experiment, &xs, &contrasts) + &found(&experiment) + &stopped(sweep, &experiment),
        method: METHOD.to_owned(),
        points,
        contrasts,
        win_rates: win_rates(&cells, &xs.numbers)?,
        effect: EFFECT,
        findings: findings(sweep, &experiment)?,
        trials: trial_results(sweep, &experiment)?,
        oracle_accuracy,
        start_accuracy: start_accuracy(sweep, &experiment)?,
    };
    sweep.write_summary(&summary)?;
    Ok(summary)
}

/// How many runs were stopped early, where some were: estimates are of those that were not.
fn stopped(sweep: &SweepDir, experiment: &Experiment) -> String {
    let runs = experiment.all_runs();
    match runs.iter().filter(|run| sweep.run(&run.id).is_stopped()).count() {
        0 => String::new(),
        stopped => {
            format!(" {stopped} of {} runs were stopped early and are left out of all estimates.", runs.len())
        }
    }
}

/// What looks wrong in the metrics of the runs, unfinished ones too.
fn findings(sweep: &SweepDir, experiment: &Experiment) -> Result<Vec<Finding>, SweepError> {
    let mut findings = Vec::new();
    for run in &experiment.runs {
        let found = diagnose(&sweep.run(&run.id).metrics()?);
        findings.extend(found.into_iter().map(|diagnosis| Finding {
            run: run.id.clone(),
            sign: diagnosis.sign,
            evidence: diagnosis.evidence,
            steps: diagnosis.steps,
            advice: diagnosis.advice.to_owned(),
        }));
    }
    Ok(findings)
}

/// The first evaluation's accuracy by the likelihoods themselves.
fn start_accuracy(sweep: &SweepDir, experiment: &Experiment) -> Result<Option<f64>, SweepError> {
    for run in &experiment.runs {
        let metrics = sweep.run(&run.id).metrics()?;
        if let Some(first) = metrics.iter().find(|record| record.kind == Kind::Eval && record.step == 0) {
            return Ok(first.values.get("eval_logps/accuracies").copied());
        }
    }
    Ok(None)
}

/// The interval of a share, which knows its limits.
pub(crate) fn share(estimate: Estimate) -> Estimate {
    within(estimate, (0.0, 1.0))
}

/// The interval of a value that lies between two limits.
fn within(estimate: Estimate, (least, most): (f64, f64)) -> Estimate {
    Estimate { low: estimate.low.max(least), high: estimate.high.min(most), ..estimate }
}

/// The least and the greatest utility that the runs' datasets know of.
fn utility_range(experiment: &Experiment, runs: &[&Judged<'_>]) -> (f64, f64) {
    let ranges = runs.iter().filter_map(|judged| {
        let range = experiment.data.get(judged.run.data)?.manifest.get("utility_range")?;
        Some((range.get(0)?.as_f64()?, range.get(1)?.as_f64()?))
    });
    let wider = |(low, high): (f64, f64), range: (f64, f64)| (low.min(range.0), high.max(range.1));
    ranges.reduce(wider).unwrap_or((f64::NEG_INFINITY, f64::INFINITY))
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_end_where_their_values_do() {
        let estimate = Estimate { value: 0.97, low: 0.9, high: 1.04 };
        assert_eq!(share(estimate), Estimate { high: 1.0, ..estimate });
        assert_eq!(share(Estimate { low: -0.1, ..estimate }), Estimate { low: 0.0, high: 1.0, ..estimate });
        assert_eq!(within(estimate, (-3.0, 3.0)), estimate);
        assert_eq!(within(estimate, (f64::NEG_INFINITY, f64::INFINITY)), estimate);
    }
}
