//! Table of capability retention.

use prospect_runs::{Estimate, Retention};

use super::{CsvTable, columns, numbers};
use crate::{sections::retention, sweep_data::SweepData};

/// Returns the changes of all scores on capability tests.
pub(super) fn retention(sweep: &SweepData) -> CsvTable {
    let row = |change: &Retention| {
        let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        let mut row = vec![
            change.test.clone(),
            change.score.clone(),
            change.is_headline.to_string(),
            change.series.clone(),
            sweep.x.name(change.x),
            change.x.to_string(),
        ];
        for estimate in [change.start, change.trained, change.change] {
            row.extend(numbers(estimate));
        }
        row.extend(change.adjusted.map_or_else(Default::default, |Estimate { low, high, .. }| {
            [low, high].map(|end| end.to_string())
        }));
        row.extend([change.p.to_string(), number(change.p_holm), change.verdict.to_string()]);
        row.extend([number(change.detectable), change.seeds.to_string(), change.questions.to_string()]);
        row
    };
    CsvTable {
        name: "retention",
        columns: columns(&[
            "test",
            "score",
            "headline",
            "series",
            "x_name",
            "x",
            "start",
            "start_low",
            "start_high",
            "trained",
            "trained_low",
            "trained_high",
            "change",
            "low",
            "high",
            "adjusted_low",
            "adjusted_high",
            "p",
            "p_holm",
            "verdict",
            "detectable",
            "seeds",
            "questions",
        ]),
        rows: retention::changes(sweep).map(row).collect(),
    }
}
