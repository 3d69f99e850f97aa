//! Differences from the baseline, and their significance.

use std::collections::BTreeMap;

use prospect_runs::{Contrast, Measure, NoVerdict, Point, PrimaryContrast, Verdict};

use super::{
    clustered::ClusteredSample,
    finished_runs::{CellKey, FinishedRun},
    quantity::Quantity,
    sweep_runs::SweepRuns,
};
use crate::{
    AnalysisError,
    stats::{Difference, SeedLayout, holm, pool_differences},
};

/// Significance level of adjusted p-values, unless the experiment gives another.
pub(super) const SIGNIFICANT: f64 = 0.05;

/// Accuracy, and AUC, of a random ranking.
const CHANCE: f64 = 0.5;

/// A series compared with the baseline at one x, over the seeds that both have.
struct Comparison<'a> {
    cell: &'a CellKey,
    runs: [Vec<&'a FinishedRun<'a>>; 2],
    /// True if the series has every seed of the baseline, and other results than other series.
    is_pooled: bool,
}

/// Returns the differences of every series from the baseline, by series, x and measure.
pub(super) fn contrasts(sweep: &SweepRuns<'_>) -> Result<Vec<Contrast>, AnalysisError> {
    let comparisons = comparisons(sweep);
    let smoothed = differences(&comparisons, &Quantity::SMOOTHED_ACCURACY)?;
    let mut compared = Vec::new();
    for (measure, quantity) in [
        (Measure::Accuracy, Quantity::ACCURACY),
        (Measure::Auc, Quantity::AUC_WITHOUT_PAIRS),
        (Measure::Utility, Quantity::utility(sweep.utility_range())),
    ] {
        let differences = differences(&comparisons, &quantity)?;
        for ((comparison, difference), smoothed) in comparisons.iter().zip(differences).zip(&smoothed) {
            if let Some(difference) = difference {
                let smoothed = smoothed.filter(|_| measure == Measure::Accuracy);
                let contrast = contrast(sweep, comparison, measure, &difference, smoothed);
                compared.push((contrast, difference, quantity.widest()));
            }
        }
    }
    let is_headline = |contrast: &Contrast| contrast.measure.is_headline();
    let has = |wanted: bool| compared.iter().any(|(contrast, ..)| is_headline(contrast) == wanted);
    let measures = usize::from(has(true)) + usize::from(has(false));
    let level = sweep.experiment.level.unwrap_or(SIGNIFICANT);
    conclude(&mut compared, sweep.planned_comparisons() * measures, level);
    let mut contrasts: Vec<Contrast> = compared.into_iter().map(|(contrast, ..)| contrast).collect();
    repeat_for_identical_series(sweep, &mut contrasts);
    contrasts.sort_by(|a, b| {
        a.series.cmp(&b.series).then(a.x.total_cmp(&b.x)).then(is_headline(b).cmp(&is_headline(a)))
    });
    Ok(contrasts)
}

/// Returns the differences of all series from the baseline in a quantity, with the cell of each.
pub(super) fn differences_in<'a>(
    sweep: &'a SweepRuns<'_>,
    quantity: &Quantity,
) -> Result<Vec<(&'a CellKey, Difference)>, AnalysisError> {
    let comparisons = comparisons(sweep);
    let differences = differences(&comparisons, quantity)?;
    let found = comparisons.iter().zip(differences);
    Ok(found.filter_map(|(comparison, difference)| Some((comparison.cell, difference?))).collect())
}

/// Returns the comparisons of all series with the baseline, except of those whose results repeat
/// those of another series.
fn comparisons<'a>(sweep: &'a SweepRuns<'_>) -> Vec<Comparison<'a>> {
    let baseline = &sweep.experiment.baseline;
    let comparison = |cell: &'a CellKey| {
        let twin = sweep.identical.get(cell);
        if cell.series == *baseline || twin.is_some_and(|twin| twin != baseline) {
            return None;
        }
        let runs = sweep.paired_with_baseline(cell)?;
        let seeds = sweep.cells.get(&sweep.baseline_at(cell.x)).map_or(0, Vec::len);
        Some(Comparison { cell, is_pooled: twin.is_none() && runs[0].len() == seeds, runs })
    };
    sweep.cells.keys().filter_map(comparison).collect()
}

/// Returns the difference of each comparison in a quantity, with pooled variance between seeds;
/// None where runs lack the quantity.
fn differences(
    comparisons: &[Comparison<'_>],
    quantity: &Quantity,
) -> Result<Vec<Option<Difference>>, AnalysisError> {
    let mut pairs: Vec<Option<SamplePair>> = Vec::new();
    for Comparison { cell, runs: [ours, theirs], is_pooled } in comparisons {
        let both = quantity.sample(ours)?.zip(quantity.sample(theirs)?);
        let pair = |(ours, theirs)| SamplePair { layout: cell.x, is_pooled: *is_pooled, ours, theirs };
        pairs.push(both.map(pair));
    }
    pooled_differences(&pairs)
}

/// A sample and that of the baseline, which share seeds and prompts.
pub(super) struct SamplePair {
    /// Pairs with the same number have the same baseline.
    pub(super) layout: usize,
    /// True if the pair takes part in pooling: if it has every seed of its layout.
    pub(super) is_pooled: bool,
    pub(super) ours: ClusteredSample,
    pub(super) theirs: ClusteredSample,
}

/// Returns the difference of each pair, with variance between seeds pooled over all of them.
pub(super) fn pooled_differences(
    pairs: &[Option<SamplePair>],
) -> Result<Vec<Option<Difference>>, AnalysisError> {
    let mut layouts: BTreeMap<usize, (SeedLayout, Vec<usize>)> = BTreeMap::new();
    for (index, pair) in pairs.iter().enumerate() {
        if let Some(SamplePair { layout, ours, theirs, .. }) = pair.as_ref().filter(|pair| pair.is_pooled) {
            let baseline = || SeedLayout { baseline: theirs.run_means(), others: Vec::new() };
            let (layout, members) = layouts.entry(*layout).or_insert_with(|| (baseline(), Vec::new()));
            layout.others.push(ours.run_means());
            members.push(index);
        }
    }
    let (layouts, members): (Vec<SeedLayout>, Vec<Vec<usize>>) = layouts.into_values().unzip();
    let pool = pool_differences(&layouts);
    let pooled: BTreeMap<usize, _> =
        members.into_iter().flatten().zip(pool.differences.into_iter().flatten()).collect();
    let difference = |(index, pair): (usize, &Option<SamplePair>)| {
        let Some(SamplePair { ours, theirs, .. }) = pair else { return Ok(None) };
        let seeds = |own| {
            let gated = || pool.pooled.zip(own).map(|(pooled, own)| pooled.gated(own)).or(own);
            pooled.get(&index).copied().unwrap_or_else(gated)
        };
        Ok(Some(ours.minus(theirs, seeds)?))
    };
    pairs.iter().enumerate().map(difference).collect()
}

/// Describes a comparison, without its conclusion.
fn contrast(
    sweep: &SweepRuns<'_>,
    comparison: &Comparison<'_>,
    measure: Measure,
    difference: &Difference,
    smoothed: Option<Difference>,
) -> Contrast {
    let Comparison { cell, runs: [ours, theirs], .. } = comparison;
    let steps = |runs: &[&FinishedRun<'_>]| runs.first().map_or(0, |run| run.steps);
    let is_primary = |primary: &PrimaryContrast| {
        primary.series == cell.series
            && primary.measure.is_headline() == measure.is_headline()
            && sweep.xs.values.get(cell.x).is_some_and(|x| *x == primary.x)
    };
    Contrast {
        series: cell.series.clone(),
        baseline: sweep.experiment.baseline.clone(),
        x: sweep.xs.numbers[cell.x],
        measure,
        difference: difference.estimate(),
        adjusted: None,
        p: difference.p_value(),
        p_holm: 1.0,
        verdict: Verdict::Inconclusive,
        no_verdict: None,
        detectable: None,
        is_primary: sweep.experiment.primary.as_ref().is_some_and(is_primary),
        identical_to: sweep.identical.get(*cell).cloned(),
        smoothed: smoothed.map(|difference| difference.estimate().clamped(-1.0, 1.0)),
        steps: [steps(ours), steps(theirs)],
        lost_runs: [sweep.lost(cell), sweep.lost(&sweep.baseline_at(cell.x))],
        seeds: difference.seeds(),
        pairs: difference.pairs(),
    }
}

/// Adjusts the p-values for a family of `planned` comparisons and sets the verdicts. Planned
/// comparisons without finished runs count, so that a failed run cannot make another comparison
/// significant.
fn conclude(compared: &mut [(Contrast, Difference, f64)], planned: usize, level: f64) {
    let is_adjusted = |contrast: &Contrast| !contrast.is_primary && contrast.identical_to.is_none();
    let is_separate = |contrast: &Contrast| contrast.is_primary && contrast.identical_to.is_none();
    let primary = compared.iter().filter(|(contrast, ..)| is_separate(contrast)).count();
    let family = planned.saturating_sub(primary).max(1);
    let p: Vec<f64> = compared
        .iter()
        .filter(|(contrast, ..)| is_adjusted(contrast))
        .map(|(contrast, ..)| contrast.p)
        .collect();
    let mut adjusted = adjust(&p, family).into_iter();
    let mut levels = step_levels(&p, family, level).into_iter();
    for (contrast, difference, widest) in compared {
        let is_adjusted = is_adjusted(contrast);
        contrast.p_holm = if is_adjusted { adjusted.next().unwrap_or(1.0) } else { contrast.p };
        let first_step = if is_adjusted { level / family as f64 } else { level };
        contrast.detectable = difference.detectable(first_step);
        let own_step = if is_adjusted { levels.next().unwrap_or(first_step) } else { level };
        contrast.adjusted = (difference.seeds() > 1).then(|| difference.estimate_at(own_step));
        contrast.no_verdict = if contrast.identical_to.is_some() {
            Some(NoVerdict::Identical)
        } else {
            no_verdict(difference, *widest, contrast.lost_runs)
        };
        if contrast.no_verdict.is_none() {
            contrast.verdict = verdict_of(contrast.difference.value, contrast.p_holm, level);
        }
    }
}

/// Returns p-values adjusted by Holm's method in a family with further comparisons that have no
/// result.
pub(super) fn adjust(p: &[f64], family: usize) -> Vec<f64> {
    let missing = family.saturating_sub(p.len());
    let mut adjusted = holm(&[p, &vec![1.0; missing]].concat());
    adjusted.truncate(p.len());
    adjusted
}

/// Returns the level at which Holm's method decides each of the comparisons: 0.05 / `family` for
/// the smallest p-value, a larger level for each next one, up to that of the first p-value above
/// its level, which decides the remaining ones too.
pub(super) fn step_levels(p: &[f64], family: usize, level: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut levels = vec![level; p.len()];
    let mut remaining = family.max(p.len());
    for index in order {
        levels[index] = level / remaining as f64;
        if p[index] < levels[index] {
            remaining -= 1;
        }
    }
    levels
}

/// Reason why a difference has no verdict, if there is one: given the half-width above which it has
/// none, and the runs that each side has lost.
pub(super) fn no_verdict(difference: &Difference, widest: f64, lost_runs: [usize; 2]) -> Option<NoVerdict> {
    // The remaining runs of a series that lost some may be its luckier ones.
    let lost_by_the_better = lost_runs[usize::from(difference.mean() < 0.0)];
    match difference.seeds() {
        0 | 1 => Some(NoVerdict::OneSeed),
        _ if lost_by_the_better > 0 => Some(NoVerdict::LostRuns),
        _ if difference.half_width(SIGNIFICANT) > widest => Some(NoVerdict::TooWide),
        _ => None,
    }
}

/// Verdict on a difference with an adjusted p-value, at a significance level.
pub(super) fn verdict_of(difference: f64, p_holm: f64, level: f64) -> Verdict {
    match difference {
        _ if p_holm >= level => Verdict::Inconclusive,
        value if value > 0.0 => Verdict::Better,
        _ => Verdict::Worse,
    }
}

/// Withholds verdicts on held-out feedback from comparisons in which neither series beats chance:
/// where both intervals of accuracy or AUC reach down to 50 %. A difference between two policies
/// that rank nothing does not recommend either.
pub(super) fn withhold_unlearnt(contrasts: &mut [Contrast], points: &[Point]) {
    let beats_chance = |series: &str, x: f64| {
        let headline = points.iter().find(|point| point.series == series && point.x == x)?.headline()?;
        Some(headline.1.low > CHANCE)
    };
    for contrast in contrasts.iter_mut().filter(|contrast| contrast.measure.is_headline()) {
        let both = [&contrast.series, &contrast.baseline].map(|series| beats_chance(series, contrast.x));
        let is_replaceable = !matches!(contrast.no_verdict, Some(NoVerdict::Identical | NoVerdict::OneSeed));
        if both == [Some(false); 2] && is_replaceable {
            contrast.no_verdict = Some(NoVerdict::NotLearnt);
            contrast.verdict = Verdict::Inconclusive;
        }
    }
}

/// Repeats the contrasts of a series for every other series with the same results.
fn repeat_for_identical_series(sweep: &SweepRuns<'_>, contrasts: &mut Vec<Contrast>) {
    for (cell, twin) in &sweep.identical {
        let is_of_twin =
            |contrast: &&Contrast| contrast.series == *twin && contrast.x == sweep.xs.numbers[cell.x];
        let repeated: Vec<Contrast> = contrasts
            .iter()
            .filter(is_of_twin)
            .map(|contrast| Contrast {
                series: cell.series.clone(),
                identical_to: Some(twin.clone()),
                is_primary: false,
                ..contrast.clone()
            })
            .collect();
        contrasts.extend(repeated);
    }
}

#[cfg(test)]
mod tests;
