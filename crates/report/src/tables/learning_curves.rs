//! Table of learning curves.

use prospect_runs::{LearningCurve, LearningPoint};

use super::{CsvTable, columns, numbers};
use crate::sweep_data::SweepData;

/// Returns the measured and the predicted values of all learning curves.
pub(super) fn learning_curves(sweep: &SweepData) -> CsvTable {
    let row = |curve: &LearningCurve, point: &LearningPoint| {
        let mut row = vec![curve.series.clone(), curve.measure.to_string(), point.rows.to_string()];
        row.push(if point.gain.is_some() { "predicted" } else { "measured" }.to_owned());
        row.extend(numbers(point.value));
        row.extend(point.gain.map_or_else(Default::default, numbers));
        row
    };
    let all = sweep.summary.iter().filter_map(|summary| summary.learning_curves.as_ref());
    let rows =
        all.flat_map(|all| &all.curves).flat_map(|curve| curve.points().map(move |point| row(curve, point)));
    CsvTable {
        name: "learning_curves",
        columns: columns(&[
            "series",
            "measure",
            "rows",
            "kind",
            "value",
            "low",
            "high",
            "gain",
            "gain_low",
            "gain_high",
        ]),
        rows: rows.collect(),
    }
}
