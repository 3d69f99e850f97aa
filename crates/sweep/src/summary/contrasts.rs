//! Differences from the baseline, and which of them are called differences.

use prospect_eval::stats::{Outcome, contrast, holm};
use prospect_runs::{Contrast, Experiment, Measure, Verdict};

use super::cells::{Judged, outcomes, utilities};
use crate::SweepError;

/// Contrasts with a smaller p-value, adjusted for all of the sweep, are called differences.
const SIGNIFICANT: f64 = 0.05;

/// The difference of accuracies that a sweep's number of seeds is planned for.
pub(super) const EFFECT: f64 = 0.02;

/// Adjusts the p-values for each other and says what can be said.
pub(super) fn judge(contrasts: &mut [Contrast]) {
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
pub(super) fn compare(
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
