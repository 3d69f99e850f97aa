//! The answer: estimates, differences and a verdict.

use std::collections::BTreeMap;

use prospect_eval::{
    calibration, diagnose, is_validation,
    stats::{Outcome, contrast, estimate, holm},
};
use prospect_runs::{
    Contrast, Estimate, Experiment, Finding, Generation, Judgement, Kind, Measure, PairOutcome, PlannedRun,
    Point, Summary, SweepDir, Verdict,
};
use serde_json::Value;

pub(crate) use prospect_runs::series_name;

use crate::{
    SweepError,
    search::results::{found, trial_results},
    win_rates::{by_utility, win_rates},
};

/// Contrasts with a smaller p-value, adjusted for all of the sweep, are called differences.
const SIGNIFICANT: f64 = 0.05;

/// The difference of accuracies that a sweep's number of seeds is planned for.
const EFFECT: f64 = 0.02;

/// A finished run with what it made of the held-out pairs.
pub(crate) struct Judged<'a> {
    run: &'a PlannedRun,
    pairs: Vec<PairOutcome>,
    generations: Vec<Generation>,
    pub(crate) judgements: Vec<Judgement>,
    beta: f64,
    steps: u64,
}

#[cfg(test)]
impl<'a> Judged<'a> {
    /// A run of which only the judgements matter.
    pub(crate) fn with(run: &'a PlannedRun, judgements: Vec<Judgement>) -> Self {
        Self { run, pairs: Vec::new(), generations: Vec::new(), judgements, beta: 1.0, steps: 0 }
    }
}

/// Runs of one series at one x, by seed.
pub(crate) type Cells<'a> = BTreeMap<(String, usize), Vec<Judged<'a>>>;

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
        let beta = directory.beta()?.unwrap_or(1.0);
        let series = run.settings.get(&experiment.series.key).map(series_name).unwrap_or_default();
        let x = run.settings.get(&experiment.x.key).map_or(0, |value| xs.index(value));
        let (mut pairs, mut generations) = (directory.pairs()?, directory.generations()?);
        let mut judgements = directory.judgements()?;
        // The other prompts have chosen the settings.
        let is_compared = |prompt_id: &str| experiment.search.is_none() || !is_validation(prompt_id);
        pairs.retain(|pair| is_compared(&pair.prompt_id));
        generations.retain(|generation| is_compared(&generation.prompt_id));
        judgements.retain(|judgement| is_compared(&judgement.prompt_id));
        judgements.extend(by_utility(&generations));
        cells.entry((series, x)).or_default().push(Judged {
            run,
            pairs,
            generations,
            judgements,
            beta,
            steps,
        });
    }
    for runs in cells.values_mut() {
        runs.sort_by_key(|judged| judged.run.seed);
    }

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
        method: "Accuracy is the share of held-out pairs whose preferred completion has the larger reward (log-ratio to the reference), ties counting half. Intervals are 95 % intervals over held-out prompts and seeds together, from the variance that each brings; differences are paired by prompt and seed. Two seeds say little of how seeds differ, and intervals are as wide as that is: three seeds or more narrow them much. A difference is called one if its p-value, adjusted for all comparisons of the sweep (Holm), is below 0.05; else the data cannot tell. Seeds change the adapter's start, the data order and which rows are kept or flipped, never the held-out pairs.".to_owned(),
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

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

fn outcomes<'a>(runs: &[&'a Judged<'_>], value: impl Fn(f64, &PairOutcome) -> f64) -> Vec<Vec<Outcome<'a>>> {
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

/// The true utilities of what each run said, if all of them know it.
fn utilities<'a>(runs: &[&'a Judged<'_>]) -> Option<Vec<Vec<Outcome<'a>>>> {
    let of_run = |judged: &&'a Judged<'_>| {
        let known: Option<Vec<_>> =
            judged.generations.iter().map(|said| Some((said, said.utility?))).collect();
        let outcome = |(said, value): (&'a Generation, f64)| Outcome {
            pair: said.prompt_id.as_str(),
            prompt: said.prompt_id.as_str(),
            value,
        };
        let outcomes: Vec<_> = known?.into_iter().map(outcome).collect();
        (!outcomes.is_empty()).then_some(outcomes)
    };
    runs.iter().map(of_run).collect()
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

/// Adjusts the p-values for each other and says what can be said.
fn judge(contrasts: &mut [Contrast]) {
    let adjusted = holm(&contrasts.iter().map(|contrast| contrast.p).collect::<Vec<_>>());
    for (contrast, p) in contrasts.iter_mut().zip(adjusted) {
        contrast.p_holm = p;
        contrast.verdict = reading(contrast.difference.value, p);
    }
}

/// What a difference with an adjusted p-value says.
pub(crate) fn reading(difference: f64, p_holm: f64) -> Verdict {
    match difference {
        _ if p_holm >= SIGNIFICANT => Verdict::CannotTell,
        value if value > 0.0 => Verdict::Ahead,
        _ => Verdict::Behind,
    }
}

/// The runs of some seeds.
fn of_seeds<'a, 'b>(runs: &'a [Judged<'b>], seeds: &[u64]) -> Vec<&'a Judged<'b>> {
    runs.iter().filter(|judged| seeds.contains(&judged.run.seed)).collect()
}

/// The differences of two series over the seeds that both have.
fn compare(
    experiment: &Experiment,
    series: &str,
    x: f64,
    runs: &[Judged<'_>],
    baseline: &[Judged<'_>],
) -> Result<Vec<Contrast>, SweepError> {
    let seeds = |runs: &[Judged<'_>]| -> Vec<u64> { runs.iter().map(|judged| judged.run.seed).collect() };
    let both: Vec<u64> = seeds(runs).into_iter().filter(|seed| seeds(baseline).contains(seed)).collect();
    if both.is_empty() {
        return Ok(Vec::new());
    }
    let (runs, baseline) = (of_seeds(runs, &both), of_seeds(baseline, &both));
    let of = |measure, ours: &[Vec<Outcome<'_>>], theirs: &[Vec<Outcome<'_>>]| -> Result<_, SweepError> {
        let difference = contrast(ours, theirs)?;
        Ok(Contrast {
            series: series.to_owned(),
            baseline: experiment.baseline.clone(),
            x,
            measure,
            difference: difference.estimate(),
            p: difference.p_value(),
            p_holm: 1.0,
            verdict: Verdict::CannotTell,
            seeds_needed: (measure == Measure::Accuracy).then(|| difference.seeds_needed(EFFECT)).flatten(),
            seeds: both.len(),
            pairs: ours.first().map_or(0, Vec::len),
        })
    };
    let accuracies = |runs| outcomes(runs, |_, pair| pair.accuracy());
    let mut contrasts = vec![of(Measure::Accuracy, &accuracies(&runs), &accuracies(&baseline))?];
    if let (Some(ours), Some(theirs)) = (utilities(&runs), utilities(&baseline)) {
        contrasts.push(of(Measure::Utility, &ours, &theirs)?);
    }
    Ok(contrasts)
}

/// What the sweep says: at the smallest value of x and at the largest, or, where values have no order, wherever there is a
/// difference.
fn verdict(experiment: &Experiment, all: &Xs, contrasts: &[Contrast]) -> String {
    let (first, last) = contrasts
        .iter()
        .map(|contrast| contrast.x)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(first, last), x| (first.min(x), last.max(x)));
    if first > last {
        return "There is nothing to compare yet.".to_owned();
    }
    let numeric =
        experiment.runs.iter().all(|run| run.settings.get(&experiment.x.key).is_some_and(Value::is_number));
    let label = &experiment.x.label;
    let place = |x: f64| match numeric {
        true if label.contains("fraction") => format!("At {} % ({label})", 100.0 * x),
        true => format!("At {label} = {x}"),
        false => {
            format!("With {label} = {}", all.values.get(x as usize).map(series_name).unwrap_or_default())
        }
    };
    let judged = contrasts.iter().any(|contrast| contrast.measure == Measure::Utility);
    let sentence = |x: f64, wanted: &dyn Fn(&Contrast) -> bool| {
        let of = |measure, name: &str| {
            let of_x = contrasts.iter().filter(|contrast| contrast.x == x && contrast.measure == measure);
            let phrases: Vec<String> = of_x.filter(|contrast| wanted(contrast)).map(phrase).collect();
            let name = if judged { name } else { "" };
            (!phrases.is_empty()).then(|| format!("{name}{}", phrases.join("; ")))
        };
        let parts = [
            of(Measure::Accuracy, "in preference accuracy "),
            of(Measure::Utility, "in true utility of what is said "),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| format!("{}, {}.", place(x), parts.join("; ")))
    };
    if numeric {
        let ends = if last > first { vec![first, last] } else { vec![first] };
        return ends.into_iter().filter_map(|x| sentence(x, &|_| true)).collect::<Vec<_>>().join(" ");
    }
    let clear = |contrast: &Contrast| contrast.verdict != Verdict::CannotTell;
    let mut sentences: Vec<String> =
        (0..all.values.len()).filter_map(|x| sentence(x as f64, &clear)).collect();
    let (told, of) = (contrasts.iter().filter(|contrast| clear(contrast)).count(), contrasts.len());
    sentences.push(match (told, of) {
        (0, 1) => phrase(&contrasts[0]) + ".",
        (0, _) => format!("None of the {of} comparisons tells a difference."),
        _ if told < of => format!("The other {} of {of} comparisons cannot tell.", of - told),
        _ => String::new(),
    });
    sentences.join(" ").trim_end().to_owned()
}

/// A difference in words: in points of held-out preference accuracy, or in true utility.
fn phrase(contrast: &Contrast) -> String {
    let Estimate { value, low, high } = contrast.difference;
    let Contrast { series, baseline, .. } = contrast;
    let (scale, digits, unit) = match contrast.measure {
        Measure::Accuracy => (100.0, 1, " points"),
        Measure::Utility => (1.0, 2, ""),
    };
    let plain = |difference: f64| format!("{:.digits$}", scale * difference);
    let signed = |difference: f64| format!("{:+.digits$}", scale * difference);
    match contrast.verdict {
        Verdict::Ahead => format!(
            "{series} is ahead of {baseline} by {}{unit} (95 % interval {} to {})",
            plain(value),
            plain(low),
            plain(high)
        ),
        Verdict::Behind => format!(
            "{series} is behind {baseline} by {}{unit} (95 % interval {} to {})",
            plain(-value),
            plain(-high),
            plain(-low)
        ),
        Verdict::CannotTell => format!(
            "{series} and {baseline} cannot be told apart (difference {}{unit}, 95 % interval {} to {})",
            signed(value),
            signed(low),
            signed(high)
        ),
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

#[cfg(test)]
mod tests {
    use prospect_runs::Axis;

    use super::*;

    fn contrast(value: f64, low: f64, high: f64, p: f64) -> Contrast {
        Contrast {
            series: "kto".to_owned(),
            baseline: "dpo".to_owned(),
            x: 0.05,
            measure: Measure::Accuracy,
            difference: Estimate { value, low, high },
            p,
            p_holm: 1.0,
            verdict: Verdict::CannotTell,
            seeds_needed: None,
            seeds: 2,
            pairs: 50,
        }
    }

    #[test]
    fn a_difference_is_claimed_only_where_all_comparisons_together_allow_it() {
        let mut contrasts = [
            contrast(0.031, 0.01, 0.052, 0.003),
            contrast(-0.031, -0.052, -0.01, 0.004),
            contrast(0.031, 0.001, 0.061, 0.045),
            contrast(0.031, -0.01, 0.072, 0.2),
        ];
        judge(&mut contrasts);
        assert_eq!(
            contrasts.each_ref().map(phrase),
            [
                "kto is ahead of dpo by 3.1 points (95 % interval 1.0 to 5.2)",
                "kto is behind dpo by 3.1 points (95 % interval 1.0 to 5.2)",
                "kto and dpo cannot be told apart (difference +3.1 points, 95 % interval +0.1 to +6.1)",
                "kto and dpo cannot be told apart (difference +3.1 points, 95 % interval -1.0 to +7.2)",
            ]
        );
        assert_eq!(contrasts[2].p_holm, 0.09);
        let utility = Contrast { measure: Measure::Utility, ..contrasts[0].clone() };
        assert_eq!(phrase(&utility), "kto is ahead of dpo by 0.03 (95 % interval 0.01 to 0.05)");
    }

    #[test]
    fn intervals_end_where_their_values_do() {
        let estimate = Estimate { value: 0.97, low: 0.9, high: 1.04 };
        assert_eq!(share(estimate), Estimate { high: 1.0, ..estimate });
        assert_eq!(share(Estimate { low: -0.1, ..estimate }), Estimate { low: 0.0, high: 1.0, ..estimate });
        assert_eq!(within(estimate, (-3.0, 3.0)), estimate);
        assert_eq!(within(estimate, (f64::NEG_INFINITY, f64::INFINITY)), estimate);
    }

    #[test]
    fn values_without_an_order_are_named_where_there_is_a_difference() {
        let axis = |key: &str| Axis { key: key.to_owned(), label: key.to_owned() };
        let runs = ["plain", "few up", "thumbs"].map(|world| PlannedRun {
            id: world.to_owned(),
            settings: [("world".to_owned(), Value::from(world))].into(),
            seed: 0,
            data: 0,
        });
        let experiment = Experiment {
            name: "worlds".to_owned(),
            question: String::new(),
            commands: Vec::new(),
            x: axis("world"),
            series: axis("method"),
            baseline: "dpo".to_owned(),
            reference: None,
            stages: Vec::new(),
            data: Vec::new(),
            runs: runs.to_vec(),
            search: None,
            base: Value::Null,
        };
        let xs = x_values(&experiment);
        let at = |x: f64, measure, p| Contrast { x, measure, ..contrast(-0.031, -0.052, -0.01, p) };
        let mut contrasts = [
            at(0.0, Measure::Accuracy, 0.5),
            at(1.0, Measure::Accuracy, 0.001),
            at(1.0, Measure::Utility, 0.002),
            at(2.0, Measure::Utility, 0.6),
        ];
        judge(&mut contrasts);
        assert_eq!(
            verdict(&experiment, &xs, &contrasts),
            "With world = few up, in preference accuracy kto is behind dpo by 3.1 points (95 % interval 1.0 to 5.2); in true \
             utility of what is said kto is behind dpo by 0.03 (95 % interval 0.01 to 0.05). The other 2 of 4 comparisons \
             cannot tell."
        );
        for contrast in &mut contrasts {
            contrast.verdict = Verdict::CannotTell;
        }
        assert_eq!(verdict(&experiment, &xs, &contrasts), "None of the 4 comparisons tells a difference.");
        assert_eq!(verdict(&experiment, &xs, &[]), "There is nothing to compare yet.");
    }
}
