//! Differences from the baseline, and their significance.

use prospect_runs::{Contrast, Experiment, Measure, Verdict};

use super::{
    finished_runs::{FinishedRun, utilities},
    headline,
};
use crate::{
    AnalysisError,
    stats::{Difference, contrast, holm},
};

/// Significance level of p-values adjusted for all comparisons of the sweep.
const SIGNIFICANT: f64 = 0.05;

/// Difference of accuracies that the number of seeds is planned for.
pub(super) const EFFECT: f64 = 0.02;

/// Adjusts the p-values for multiple comparisons and sets the verdicts.
pub(super) fn adjust(contrasts: &mut [Contrast]) {
    let adjusted = holm(&contrasts.iter().map(|contrast| contrast.p).collect::<Vec<_>>());
    for (contrast, p) in contrasts.iter_mut().zip(adjusted) {
        contrast.p_holm = p;
        contrast.verdict = verdict_of(contrast.difference.value, p);
    }
}

/// Verdict on a difference with an adjusted p-value.
pub(super) fn verdict_of(difference: f64, p_holm: f64) -> Verdict {
    match difference {
        _ if p_holm >= SIGNIFICANT => Verdict::CannotTell,
        value if value > 0.0 => Verdict::Ahead,
        _ => Verdict::Behind,
    }
}

/// Returns the differences of a series from the baseline over the seeds that both have.
pub(super) fn compare(
    experiment: &Experiment,
    series: &str,
    x: f64,
    runs: &[FinishedRun<'_>],
    baseline: &[FinishedRun<'_>],
) -> Result<Vec<Contrast>, AnalysisError> {
    let has_seed = |runs: &[FinishedRun<'_>], seed| runs.iter().any(|run| run.planned.seed == seed);
    let runs: Vec<_> = runs.iter().filter(|run| has_seed(baseline, run.planned.seed)).collect();
    let seeds: Vec<u64> = runs.iter().map(|run| run.planned.seed).collect();
    let baseline: Vec<_> = baseline.iter().filter(|run| seeds.contains(&run.planned.seed)).collect();
    if seeds.is_empty() {
        return Ok(Vec::new());
    }
    let contrast_in = |measure, difference: Difference, pairs| Contrast {
        series: series.to_owned(),
        baseline: experiment.baseline.clone(),
        x,
        measure,
        difference: difference.estimate(),
        p: difference.p_value(),
        p_holm: 1.0,
        verdict: Verdict::CannotTell,
        seeds_needed: if measure == Measure::Accuracy { difference.seeds_needed(EFFECT) } else { None },
        seeds: seeds.len(),
        pairs,
    };
    let mut contrasts = Vec::new();
    if let (Some((measure, ours)), Some((_, theirs))) = (headline(&runs), headline(&baseline)) {
        contrasts.push(contrast_in(measure, ours.minus(&theirs)?, ours.len()));
    }
    if let (Some(ours), Some(theirs)) = (utilities(&runs), utilities(&baseline)) {
        let pairs = ours.first().map_or(0, Vec::len);
        contrasts.push(contrast_in(Measure::Utility, contrast(&ours, &theirs)?, pairs));
    }
    Ok(contrasts)
}
