//! Estimates of every series at every x.

use std::collections::BTreeMap;

use prospect_core::sample::mean;
use prospect_runs::{Estimate, Point, ThumbEstimates};

use super::{
    finished_runs::{CellKey, FinishedRun, accuracies},
    quantity::Quantity,
    sweep_runs::SweepRuns,
    thumbs::thumb_estimates,
};
use crate::{
    AnalysisError, calibration,
    stats::pool_levels,
    thumbs::{auc, scores},
};

/// Returns the estimates of every series at every x with finished runs whose held-out feedback can
/// be ranked.
pub(super) fn points(sweep: &SweepRuns<'_>) -> Result<Vec<Point>, AnalysisError> {
    let range = sweep.utility_range();
    let (least, most) = range.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
    let accuracy = estimates(sweep, &Quantity::ACCURACY)?;
    let smoothed = estimates(sweep, &Quantity::SMOOTHED_ACCURACY)?;
    let own = estimates(sweep, &Quantity::OWN_ACCURACY)?;
    let auc = estimates(sweep, &Quantity::AUC_WITHOUT_PAIRS)?;
    let margin = estimates(sweep, &Quantity::MARGIN)?;
    let utility = estimates(sweep, &Quantity::utility(range))?;
    let mut points = Vec::new();
    for (cell, runs) in &sweep.cells {
        let Some(margin) = margin.get(cell).copied() else { continue };
        let runs: Vec<_> = runs.iter().collect();
        let share = |estimates: &BTreeMap<&CellKey, Estimate>| {
            estimates.get(cell).map(|share| share.clamped(0.0, 1.0))
        };
        let thumbs = thumb_estimates(&runs)?
            .map(|thumbs| ThumbEstimates { auc: share(&auc).unwrap_or(thumbs.auc), ..thumbs });
        points.push(Point {
            series: cell.series.clone(),
            x: sweep.xs.numbers[cell.x],
            accuracy: share(&accuracy),
            smoothed_accuracy: share(&smoothed),
            own_accuracy: share(&own),
            thumbs,
            seeds: runs.iter().filter_map(|run| headline_of_run(run)).collect(),
            utility: utility.get(cell).map(|utility| utility.clamped(least, most)),
            margin,
            steps: runs.first().map_or(0, |run| run.steps),
            calibration: calibration(
                runs.iter().flat_map(|run| run.pairs.iter().map(|pair| (run.beta, pair))),
            ),
        });
    }
    Ok(points)
}

fn headline_of_run(run: &FinishedRun<'_>) -> Option<f64> {
    if run.pairs.is_empty() { auc(&scores(&run.thumbs)) } else { mean(accuracies(run)) }
}

/// Returns the estimate of a quantity in every cell that has it, with the variance between seeds
/// pooled over cells with different results.
fn estimates<'a>(
    sweep: &'a SweepRuns<'_>,
    quantity: &Quantity,
) -> Result<BTreeMap<&'a CellKey, Estimate>, AnalysisError> {
    let mut samples = BTreeMap::new();
    for (cell, runs) in &sweep.cells {
        if let Some(sample) = quantity.sample(&runs.iter().collect::<Vec<_>>())? {
            samples.insert(cell, sample);
        }
    }
    let (repeated, distinct): (Vec<_>, Vec<_>) =
        samples.into_iter().partition(|(cell, _)| sweep.identical.contains_key(*cell));
    let means: Vec<Vec<f64>> = distinct.iter().map(|(_, sample)| sample.run_means()).collect();
    let mut estimates: BTreeMap<&CellKey, Estimate> = distinct
        .iter()
        .zip(pool_levels(&means))
        .map(|((cell, sample), seeds)| (*cell, sample.estimate(seeds)))
        .collect();
    for (cell, sample) in repeated {
        let twin = sweep.identical.get(cell).map(|series| CellKey { series: series.clone(), x: cell.x });
        let estimate = twin.and_then(|twin| estimates.get(&twin).copied());
        estimates.insert(cell, estimate.unwrap_or_else(|| sample.estimate(None)));
    }
    Ok(estimates)
}
