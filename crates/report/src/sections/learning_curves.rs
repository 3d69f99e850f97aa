//! Learning curves: measured and predicted values by the number of training rows.

use prospect_runs::{LearningCurve, LearningPoint, Measure};
use serde::Serialize;

use crate::{format, sweep_data::SweepData};

/// Learning curves as the page shows them.
#[derive(Serialize)]
pub(crate) struct LearningView {
    notes: Vec<String>,
    rows: Vec<LearningRow>,
}

#[derive(Serialize)]
struct LearningRow {
    series: String,
    measure: &'static str,
    /// Number of training rows, with its ratio to the largest measured one if it is predicted.
    size: String,
    value: String,
    gain: String,
    predicted: bool,
}

/// Returns the curves, if the sweep is over numbers of training prompts.
pub(crate) fn view(sweep: &SweepData) -> Option<LearningView> {
    let all = sweep.summary.as_ref()?.learning_curves.as_ref()?;
    let rows = all.curves.iter().flat_map(rows).collect();
    Some(LearningView { notes: all.notes.clone(), rows })
}

fn rows(curve: &LearningCurve) -> Vec<LearningRow> {
    let largest = curve.measured.iter().map(|point| point.rows).fold(0.0, f64::max);
    let row = |point: &LearningPoint| {
        let size = format::plain(point.rows.round());
        LearningRow {
            series: curve.series.clone(),
            measure: if curve.measure == Measure::Auc { "AUC" } else { "accuracy" },
            size: match point.gain {
                None => size,
                Some(_) => format!("{size} ({} × the largest)", format::plain(point.rows / largest)),
            },
            value: format::percent_estimate(point.value),
            gain: point.gain.map_or_else(
                || "–".to_owned(),
                |gain| format!("{} ({})", format::points(gain.value), format::points_interval(gain)),
            ),
            predicted: point.gain.is_some(),
        }
    };
    curve.measured.iter().chain(&curve.predicted).map(row).collect()
}
