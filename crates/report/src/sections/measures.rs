//! Measures of held-out pairs side by side: accuracy, smoothed accuracy, and accuracy by the score
//! that an objective without a reference optimises.

use prospect_runs::{Estimate, Point};
use serde::Serialize;

use crate::{format, sweep_data::SweepData};

/// Table of the measures.
#[derive(Serialize)]
pub(crate) struct MeasureTable {
    /// True if an objective has a score of its own.
    has_own: bool,
    rows: Vec<MeasureRow>,
}

/// Measures of one series at one x value, each with its interval.
#[derive(Serialize)]
struct MeasureRow {
    x: String,
    series: String,
    accuracy: String,
    smoothed: String,
    own: String,
}

/// Returns the table, if the held-out feedback has pairs.
pub(crate) fn table(sweep: &SweepData) -> Option<MeasureTable> {
    let shown =
        |estimate: Option<Estimate>| estimate.map_or_else(|| "–".to_owned(), format::percent_estimate);
    let row = |point: &Point| {
        point.accuracy.map(|accuracy| MeasureRow {
            x: sweep.x.name(point.x),
            series: point.series.clone(),
            accuracy: format::percent_estimate(accuracy),
            smoothed: shown(point.smoothed_accuracy),
            own: shown(point.own_accuracy),
        })
    };
    let points = &sweep.summary.as_ref()?.points;
    let mut points: Vec<&Point> = points.iter().collect();
    points.sort_by(|a, b| {
        let series = |point: &Point| sweep.series_index(&point.series);
        a.x.total_cmp(&b.x).then_with(|| series(a).cmp(&series(b)))
    });
    let rows: Vec<MeasureRow> = points.iter().copied().filter_map(row).collect();
    let has_own = points.iter().any(|point| point.own_accuracy.is_some());
    (!rows.is_empty()).then_some(MeasureTable { has_own, rows })
}
