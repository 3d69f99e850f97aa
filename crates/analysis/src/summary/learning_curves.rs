//! Learning curves of a sweep over the number of training prompts.

use std::collections::{BTreeMap, BTreeSet};

use prospect_runs::{LearningCurve, LearningCurves, LearningPoint, Measure, Point, Resample};

use super::{
    finished_runs::{CellKey, FinishedRun},
    quantity::Quantity,
    sweep_runs::SweepRuns,
};
use crate::{
    AnalysisError,
    learning_curve::{FURTHEST, SizeResults, learning_curve},
};

/// Setting that keeps a number of training prompts; fewer prompts are a subset of more.
const PROMPTS: &str = "data.select.train_prompts";

/// Returns the learning curves of all series that are trained; None if the x axis is no number of
/// training prompts.
pub(super) fn learning_curves(
    sweep: &SweepRuns<'_>,
    points: &[Point],
) -> Result<Option<LearningCurves>, AnalysisError> {
    if sweep.experiment.x.key != PROMPTS {
        return Ok(None);
    }
    let mut all = LearningCurves { notes: Vec::new(), curves: Vec::new() };
    let series: BTreeSet<&str> = sweep.cells.keys().map(|cell| cell.series.as_str()).collect();
    for series in series.into_iter().filter(|series| !is_untrained(sweep, series)) {
        for (measure, quantity) in
            [(Measure::Accuracy, Quantity::ACCURACY), (Measure::Auc, Quantity::AUC_WITHOUT_PAIRS)]
        {
            let sizes = sizes(sweep, series, &quantity)?;
            if sizes.is_empty() {
                continue;
            }
            match curve(series, measure, &sizes, points) {
                Ok(curve) => all.curves.push(curve),
                Err(reason) => all.notes.push(format!("{series}: {reason}.")),
            }
        }
    }
    if !sweep.experiment.resample.contains(&Resample::Prompts) && !all.curves.is_empty() {
        all.notes.push(
            "All seeds train on the same prompts, so the intervals do not cover which prompts were collected; \
             `seeds: { values: […], resample: [prompts] }` draws them anew for each seed."
                .to_owned(),
        );
    }
    Ok(Some(all))
}

fn is_untrained(sweep: &SweepRuns<'_>, series: &str) -> bool {
    sweep.experiment.untrained.iter().any(|name| name == series)
}

/// Results of a series by the number of training rows, with their x.
fn sizes(
    sweep: &SweepRuns<'_>,
    series: &str,
    quantity: &Quantity,
) -> Result<Vec<(f64, SizeResults)>, AnalysisError> {
    let mut sizes = Vec::new();
    let of_series = |cell: &&CellKey| cell.series == series;
    for cell in sweep.cells.keys().filter(of_series) {
        let runs: Vec<&FinishedRun<'_>> = sweep.cells[cell].iter().collect();
        let Some(sample) = quantity.sample(&runs)? else { continue };
        let rows = runs.iter().map(|run| run.examples as f64).sum::<f64>() / runs.len() as f64;
        sizes.push((sweep.xs.numbers[cell.x], SizeResults { rows, seeds: sample.by_prompt() }));
    }
    Ok(sizes)
}

fn curve(
    series: &str,
    measure: Measure,
    sizes: &[(f64, SizeResults)],
    points: &[Point],
) -> Result<LearningCurve, String> {
    let results: Vec<SizeResults> = sizes.iter().map(|(_, size)| size.clone()).collect();
    let largest = results.iter().map(|size| size.rows).fold(0.0, f64::max);
    let wanted = [2.0 * largest, FURTHEST * largest];
    let fitted = learning_curve(&results, &wanted).map_err(|reason| reason.to_string())?;
    let by_x: BTreeMap<u64, &Point> = points
        .iter()
        .filter(|point| point.series == series)
        .map(|point| (point.x.to_bits(), point))
        .collect();
    let measured = sizes.iter().filter_map(|(x, size)| {
        let (_, value) = by_x.get(&x.to_bits())?.headline()?;
        Some(LearningPoint { rows: size.rows, value, gain: None })
    });
    let predicted = fitted.predictions.iter().map(|one| LearningPoint {
        rows: one.rows,
        value: one.value,
        gain: Some(one.gain),
    });
    Ok(LearningCurve {
        series: series.to_owned(),
        measure,
        limit: fitted.limit,
        exponent: fitted.exponent,
        measured: measured.collect(),
        predicted: predicted.collect(),
    })
}
