//! Variation of the differences that a sweep has measured, for planning further comparisons.

use prospect_runs::{Measure, SweepDir};

use super::{contrasts::differences_in, quantity::Quantity, sweep_runs::SweepRuns};
use crate::{AnalysisError, stats::Variation};

/// Variation of one series' difference from the baseline at one x.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasuredVariation {
    /// Series.
    pub series: String,
    /// Series that it is compared with.
    pub baseline: String,
    /// Value of the x axis.
    pub x: f64,
    /// Quantity: accuracy, or AUC without pairs.
    pub measure: Measure,
    /// Variation of a single pair and seed.
    pub variation: Variation,
    /// Standard deviation between seeds of the mean difference on these pairs.
    pub between_seeds: f64,
    /// Degrees of freedom of `between_seeds`.
    pub df: f64,
    /// Number of seeds.
    pub seeds: usize,
    /// Number of held-out pairs or thumbs.
    pub pairs: usize,
    /// Planned comparisons of the sweep, over which the variance between seeds is pooled.
    pub comparisons: usize,
}

/// Returns the variation of each difference from the baseline that the finished runs of a sweep
/// show; empty without two seeds.
pub fn measured_variations(sweep: &SweepDir) -> Result<Vec<MeasuredVariation>, AnalysisError> {
    let experiment = sweep.experiment()?;
    let runs = SweepRuns::read(sweep, &experiment)?;
    let mut variations = Vec::new();
    for (measure, quantity) in
        [(Measure::Accuracy, Quantity::ACCURACY), (Measure::Auc, Quantity::AUC_WITHOUT_PAIRS)]
    {
        for (cell, difference) in differences_in(&runs, &quantity)? {
            let Some((variation, df)) = difference.variation() else { continue };
            let pairs = difference.pairs();
            let between_seeds = variation.seed_deviation.powi(2) + variation.residual / pairs as f64;
            variations.push(MeasuredVariation {
                series: cell.series.clone(),
                baseline: experiment.baseline.clone(),
                x: runs.xs.numbers[cell.x],
                measure,
                variation,
                between_seeds: between_seeds.sqrt(),
                df,
                seeds: difference.seeds(),
                pairs,
                comparisons: runs.planned_comparisons().max(1),
            });
        }
    }
    Ok(variations)
}
