//! Table of imported scores.

use prospect_runs::ScoreMean;

use super::{CsvTable, columns, numbers};
use crate::{sections::scores::contrast, sweep_data::SweepData};

/// Returns the imported scores with their differences from the baseline.
pub(super) fn scores(sweep: &SweepData) -> CsvTable {
    let row = |mean: &ScoreMean| {
        let contrast = contrast(sweep, mean);
        let mut row = vec![
            mean.judge.clone(),
            mean.task.clone(),
            mean.series.clone(),
            sweep.x.name(mean.x),
            mean.x.to_string(),
        ];
        row.extend(numbers(mean.mean));
        row.extend([mean.seeds, mean.questions].map(|count| count.to_string()));
        let Some(contrast) = contrast else {
            row.extend(std::iter::repeat_n(String::new(), 10));
            return row;
        };
        row.push(contrast.baseline.clone());
        row.extend(numbers(contrast.difference));
        row.extend([contrast.p, contrast.p_holm].map(|p| p.to_string()));
        row.push(contrast.verdict.to_string());
        row.push(contrast.detectable.map(|value| value.to_string()).unwrap_or_default());
        row.extend([contrast.seeds, contrast.questions].map(|count| count.to_string()));
        row
    };
    CsvTable {
        name: "scores",
        columns: columns(&[
            "judge",
            "task",
            "series",
            "x_name",
            "x",
            "mean",
            "low",
            "high",
            "seeds",
            "questions",
            "baseline",
            "difference",
            "difference_low",
            "difference_high",
            "p",
            "p_holm",
            "verdict",
            "detectable",
            "paired_seeds",
            "paired_questions",
        ]),
        rows: sweep.summary.iter().flat_map(|summary| &summary.scores).map(row).collect(),
    }
}
