//! Rows of the tables of differences from the baseline.

use prospect_runs::{Contrast, Measure, Verdict};
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
    seeds_needed: String,
    pairs: usize,
}

/// Returns the comparisons of one measure, in the order of the summary.
pub(crate) fn rows(sweep: &SweepData, measure: Measure) -> Vec<ContrastRow> {
    let contrasts = sweep.summary.iter().flat_map(|summary| &summary.contrasts);
    let of_measure = contrasts.filter(|contrast| contrast.measure == measure);
    of_measure.map(|contrast| ContrastRow::new(sweep, contrast)).collect()
}

impl ContrastRow {
    fn new(sweep: &SweepData, contrast: &Contrast) -> Self {
        let Contrast { series, baseline, x, difference, p, p_holm, verdict, .. } = contrast;
        let conclusion = match verdict {
            Verdict::Ahead => format!("{series} higher"),
            Verdict::Behind => format!("{baseline} higher"),
            Verdict::CannotTell => "inconclusive".to_owned(),
        };
        let (shown, interval) = match contrast.measure {
            Measure::Accuracy | Measure::Auc => {
                (format::points(difference.value), format::points_interval(*difference))
            }
            Measure::Utility => (format::signed(difference.value), format::signed_interval(*difference)),
        };
        Self {
            x: sweep.x.name(*x),
            series: series.clone(),
            baseline: baseline.clone(),
            difference: shown,
            interval,
            conclusion,
            p: format::p_value(*p),
            p_holm: format::p_value(*p_holm),
            significant: *verdict != Verdict::CannotTell,
            seeds: contrast.seeds,
            seeds_needed: contrast.seeds_needed.map_or_else(|| "–".to_owned(), |seeds| seeds.to_string()),
            pairs: contrast.pairs,
        }
    }
}
