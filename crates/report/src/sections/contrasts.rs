//! Rows of the tables of differences from the baseline.

use prospect_runs::{Contrast, Measure, NoVerdict, Verdict};
use serde::Serialize;

use crate::{format, sweep_data::SweepData};

/// A comparison of a series with the baseline.
#[derive(Serialize)]
pub(crate) struct ContrastRow {
    x: String,
    series: String,
    baseline: String,
    difference: String,
    interval: String,
    conclusion: String,
    p: String,
    p_holm: String,
    significant: bool,
    seeds: usize,
    /// Difference that the comparison could detect.
    detectable: String,
    pairs: usize,
    /// Optimizer steps; of both series if they differ.
    steps: String,
    /// Difference in smoothed accuracy with its interval, if there is one.
    smoothed: Option<String>,
}

/// Returns the comparisons of one measure, in the order of the summary.
pub(crate) fn rows(sweep: &SweepData, measure: Measure) -> Vec<ContrastRow> {
    let contrasts = sweep.summary.iter().flat_map(|summary| &summary.contrasts);
    let of_measure = contrasts.filter(|contrast| contrast.measure == measure);
    of_measure.map(|contrast| ContrastRow::new(sweep, contrast)).collect()
}

/// Words for a comparison's verdict, or for the reason why it has none.
pub(crate) fn conclusion(contrast: &Contrast) -> String {
    let words = match (contrast.no_verdict, contrast.verdict) {
        (Some(NoVerdict::OneSeed), _) => "one seed",
        (Some(NoVerdict::TooWide), _) => "too few seeds and pairs",
        (Some(NoVerdict::LostRuns), _) => "inconclusive: runs failed",
        (Some(NoVerdict::Identical), _) => "identical runs",
        (Some(NoVerdict::NotLearnt), _) => "not learnt yet",
        (None, Verdict::Better) => "better",
        (None, Verdict::Worse) => "worse",
        (None, Verdict::Inconclusive) => "inconclusive",
    };
    match &contrast.identical_to {
        Some(twin) if contrast.no_verdict.is_none() => format!("{words} (same runs as {twin})"),
        _ if contrast.is_primary => format!("{words} (primary)"),
        _ => words.to_owned(),
    }
}

impl ContrastRow {
    fn new(sweep: &SweepData, contrast: &Contrast) -> Self {
        let Contrast { series, baseline, x, difference, p, p_holm, verdict, .. } = contrast;
        // One seed has no p-value.
        let p_value = |p| if contrast.seeds < 2 { "–".to_owned() } else { format::p_value(p) };
        let (shown, interval, size) = match contrast.measure {
            Measure::Accuracy | Measure::Auc => (
                format::signed_points(difference.value),
                format::points_interval(*difference),
                (|value| format::fixed(100.0 * value, 1)) as fn(f64) -> String,
            ),
            Measure::Utility => (
                format::signed(difference.value),
                format::signed_interval(*difference),
                (|value| format::fixed(value, 2)) as fn(f64) -> String,
            ),
        };
        let smoothed = contrast.smoothed.map(|estimate| {
            format!("{} ({})", format::signed_points(estimate.value), format::points_interval(estimate))
        });
        let steps = match contrast.steps {
            [ours, theirs] if ours == theirs => ours.to_string(),
            [ours, theirs] => format!("{ours} and {theirs}"),
        };
        Self {
            x: sweep.x.name(*x),
            series: series.clone(),
            baseline: baseline.clone(),
            difference: shown,
            interval,
            conclusion: conclusion(contrast),
            p: p_value(*p),
            p_holm: p_value(*p_holm),
            significant: *verdict != Verdict::Inconclusive,
            seeds: contrast.seeds,
            detectable: contrast.detectable.map_or_else(|| "–".to_owned(), size),
            pairs: contrast.pairs,
            steps,
            smoothed,
        }
    }
}
