//! The answer: estimates, differences and a verdict.

use std::collections::BTreeMap;

use prospect_eval::stats::{Outcome, contrast, estimate};
use prospect_runs::{
    Contrast, Estimate, Experiment, Kind, PairOutcome, PlannedRun, Point, Summary, SweepDir,
};
use serde_json::Value;

use crate::SweepError;

/// Bootstrap resamples.
const DRAWS: usize = 4000;

/// A series' name on figures and in tables.
pub(crate) fn series_name(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        other => other.to_string(),
    }
}

/// A finished run with what it made of the held-out pairs.
struct Judged<'a> {
    run: &'a PlannedRun,
    pairs: Vec<PairOutcome>,
    beta: f64,
    steps: u64,
}

/// Runs of one series at one x, by seed.
type Cells<'a> = BTreeMap<(String, usize), Vec<Judged<'a>>>;

/// Reads the finished runs of a sweep and writes and returns its summary.
pub fn summarise(sweep: &SweepDir) -> Result<Summary, SweepError> {
    let experiment = sweep.experiment()?;
    let xs = x_values(&experiment);
    let mut cells: Cells<'_> = BTreeMap::new();
    for run in &experiment.runs {
        let directory = sweep.run(&run.id);
        if !directory.is_finished() {
            continue;
        }
        let metrics = directory.metrics()?;
        let steps = metrics.iter().filter(|record| record.kind == Kind::Train).count() as u64;
        let beta = directory.config()?.pointer("/settings/objective").and_then(find_beta).unwrap_or(1.0);
        let series = run.settings.get(&experiment.series.key).map(series_name).unwrap_or_default();
        let x = run.settings.get(&experiment.x.key).map_or(0, |value| xs.index(value));
        cells.entry((series, x)).or_default().push(Judged { run, pairs: directory.pairs()?, beta, steps });
    }
    for runs in cells.values_mut() {
        runs.sort_by_key(|judged| judged.run.seed);
    }

    let mut points = Vec::new();
    let mut contrasts = Vec::new();
    for ((series, x), runs) in &cells {
        points.push(Point {
            series: series.clone(),
            x: xs.numbers[*x],
            accuracy: estimate(&outcomes(runs, |_, pair| pair.accuracy()), DRAWS, 0)?,
            seeds: runs.iter().map(|judged| mean(judged.pairs.iter().map(PairOutcome::accuracy))).collect(),
            margin: estimate(&outcomes(runs, |beta, pair| beta * (pair.chosen - pair.rejected)), DRAWS, 0)?,
            steps: runs.first().map_or(0, |judged| judged.steps),
        });
        if *series != experiment.baseline
            && let Some(baseline) = cells.get(&(experiment.baseline.clone(), *x))
        {
            contrasts.extend(compare(&experiment, series, xs.numbers[*x], runs, baseline)?);
        }
    }
    let oracle_accuracy =
        experiment.data.first().and_then(|data| data.manifest.get("oracle_accuracy")).and_then(Value::as_f64);
    let summary = Summary {
        verdict: verdict(&experiment, &contrasts),
        method: "Accuracy is the share of held-out pairs whose preferred completion has the larger reward (log-ratio to the reference), ties counting half. Intervals are 95 % bootstrap intervals over held-out prompts and seeds together; differences are paired by prompt and seed. With two or three seeds, the part that comes from seeds is itself poorly known, and such intervals are somewhat too narrow. Seeds change the adapter's start, the data order and which rows are kept or flipped, never the held-out pairs.".to_owned(),
        points,
        contrasts,
        oracle_accuracy,
        start_accuracy: start_accuracy(sweep, &experiment)?,
    };
    sweep.write_summary(&summary)?;
    Ok(summary)
}

/// The x axis: numbers as they are, anything else by its place in the plan.
struct Xs {
    values: Vec<Value>,
    numbers: Vec<f64>,
}

impl Xs {
    fn index(&self, value: &Value) -> usize {
        self.values.iter().position(|other| other == value).unwrap_or(0)
    }
}

fn x_values(experiment: &Experiment) -> Xs {
    let mut values: Vec<Value> = Vec::new();
    for value in experiment.runs.iter().filter_map(|run| run.settings.get(&experiment.x.key)) {
        if !values.contains(value) {
            values.push(value.clone());
        }
    }
    let numbers: Option<Vec<f64>> = values.iter().map(Value::as_f64).collect();
    let numbers = numbers.unwrap_or_else(|| (0..values.len()).map(|index| index as f64).collect());
    Xs { values, numbers }
}

fn find_beta(objective: &Value) -> Option<f64> {
    objective.as_object()?.values().find_map(|options| options.get("beta")?.as_f64())
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

fn outcomes<'a>(runs: &'a [Judged<'_>], value: impl Fn(f64, &PairOutcome) -> f64) -> Vec<Vec<Outcome<'a>>> {
    runs.iter()
        .map(|judged| {
            judged
                .pairs
                .iter()
                .map(|pair| Outcome {
                    pair: &pair.pair_id,
                    prompt: &pair.prompt_id,
                    value: value(judged.beta, pair),
                })
                .collect()
        })
        .collect()
}

/// The difference of two series over the seeds that both have.
fn compare(
    experiment: &Experiment,
    series: &str,
    x: f64,
    runs: &[Judged<'_>],
    baseline: &[Judged<'_>],
) -> Result<Option<Contrast>, SweepError> {
    let seeds = |runs: &[Judged<'_>]| -> Vec<u64> { runs.iter().map(|judged| judged.run.seed).collect() };
    let both: Vec<u64> = seeds(runs).into_iter().filter(|seed| seeds(baseline).contains(seed)).collect();
    if both.is_empty() {
        return Ok(None);
    }
    let shared = |runs: &[Judged<'_>]| -> Vec<usize> {
        (0..runs.len()).filter(|index| both.contains(&runs[*index].run.seed)).collect()
    };
    let accuracies = |runs, indices: Vec<usize>| -> Vec<_> {
        let all = outcomes(runs, |_, pair| pair.accuracy());
        indices.into_iter().map(|index| all[index].clone()).collect()
    };
    let difference =
        contrast(&accuracies(runs, shared(runs)), &accuracies(baseline, shared(baseline)), DRAWS, 0)?;
    Ok(Some(Contrast {
        series: series.to_owned(),
        baseline: experiment.baseline.clone(),
        x,
        difference,
        seeds: both.len(),
        pairs: runs.first().map_or(0, |judged| judged.pairs.len()),
    }))
}

/// What the sweep says at the smallest value of x and at the largest.
fn verdict(experiment: &Experiment, contrasts: &[Contrast]) -> String {
    let mut xs: Vec<f64> = contrasts.iter().map(|contrast| contrast.x).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let (Some(first), Some(last)) = (xs.first(), xs.last()) else {
        return "There is nothing to compare yet.".to_owned();
    };
    let numeric =
        experiment.runs.iter().all(|run| run.settings.get(&experiment.x.key).is_some_and(Value::is_number));
    let sentence = |x: f64| {
        let of_x: Vec<String> = contrasts.iter().filter(|contrast| contrast.x == x).map(phrase).collect();
        let label = &experiment.x.label;
        let place = match numeric {
            true if label.contains("fraction") => format!("At {} % ({label})", 100.0 * x),
            true => format!("At {label} = {x}"),
            false => format!("At the {label} listed as number {}", x + 1.0),
        };
        format!("{place}, {}.", of_x.join("; "))
    };
    let wanted = if last > first { vec![*first, *last] } else { vec![*first] };
    wanted.into_iter().map(sentence).collect::<Vec<_>>().join(" ")
}

/// A difference in words, in points of held-out preference accuracy.
fn phrase(contrast: &Contrast) -> String {
    let Estimate { value, low, high } = contrast.difference;
    let points = |x: f64| 100.0 * x;
    let Contrast { series, baseline, .. } = contrast;
    if low > 0.0 || high < 0.0 {
        let (word, sign) = if low > 0.0 { ("ahead of", 1.0) } else { ("behind", -1.0) };
        let (near, far) = if low > 0.0 { (low, high) } else { (-high, -low) };
        let (by, near, far) = (points(sign * value), points(near), points(far));
        return format!(
            "{series} is {word} {baseline} by {by:.1} points (95 % interval {near:.1} to {far:.1})"
        );
    }
    let (value, low, high) = (points(value), points(low), points(high));
    format!(
        "{series} and {baseline} cannot be told apart (difference {value:+.1} points, 95 % interval {low:+.1} to {high:+.1})"
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    fn contrast(value: f64, low: f64, high: f64) -> Contrast {
        let difference = Estimate { value, low, high };
        Contrast {
            series: "kto".to_owned(),
            baseline: "dpo".to_owned(),
            x: 0.05,
            difference,
            seeds: 2,
            pairs: 50,
        }
    }

    #[test]
    fn a_difference_is_claimed_only_where_its_interval_excludes_zero() {
        assert_eq!(
            phrase(&contrast(0.031, 0.01, 0.052)),
            "kto is ahead of dpo by 3.1 points (95 % interval 1.0 to 5.2)"
        );
        assert_eq!(
            phrase(&contrast(-0.031, -0.052, -0.01)),
            "kto is behind dpo by 3.1 points (95 % interval 1.0 to 5.2)"
        );
        assert_eq!(
            phrase(&contrast(0.031, -0.01, 0.072)),
            "kto and dpo cannot be told apart (difference +3.1 points, 95 % interval -1.0 to +7.2)"
        );
    }
}
