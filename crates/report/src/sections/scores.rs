//! Scores imported from other tools: means by task, and differences from the baseline.

use prospect_runs::{Estimate, ScoreContrast, ScoreMean, Verdict};
use serde::Serialize;

use crate::{format, sweep_data::SweepData};

/// Scores of one judge or tool as the page shows them.
#[derive(Serialize)]
pub(crate) struct ScoreTable {
    judge: String,
    /// Description of the import.
    about: String,
    rows: Vec<ScoreRow>,
}

#[derive(Serialize)]
struct ScoreRow {
    task: String,
    x: String,
    series: String,
    mean: String,
    difference: String,
    p_holm: String,
    conclusion: &'static str,
    significant: bool,
    detectable: String,
    seeds: usize,
    questions: usize,
}

/// Returns the tables of all judges with scores, in the order of the summary.
pub(crate) fn tables(sweep: &SweepData) -> Vec<ScoreTable> {
    let mut tables: Vec<ScoreTable> = Vec::new();
    for mean in sweep.summary.iter().flat_map(|summary| &summary.scores) {
        let row = ScoreRow::new(sweep, mean);
        if let Some(table) = tables.iter_mut().find(|table| table.judge == mean.judge) {
            table.rows.push(row);
        } else {
            let note = sweep.judges.iter().find(|note| note.name == mean.judge);
            let about = note.map(|note| note.about.clone()).unwrap_or_default();
            tables.push(ScoreTable { judge: mean.judge.clone(), about, rows: vec![row] });
        }
    }
    tables
}

/// Returns the difference of a series from the baseline on a task, if there is one.
pub(crate) fn contrast<'a>(sweep: &'a SweepData, mean: &ScoreMean) -> Option<&'a ScoreContrast> {
    let is_same = |contrast: &&ScoreContrast| {
        contrast.judge == mean.judge
            && contrast.task == mean.task
            && contrast.series == mean.series
            && contrast.x.total_cmp(&mean.x).is_eq()
    };
    sweep.summary.iter().flat_map(|summary| &summary.score_contrasts).find(is_same)
}

impl ScoreRow {
    fn new(sweep: &SweepData, mean: &ScoreMean) -> Self {
        let contrast = contrast(sweep, mean);
        let dash = || "–".to_owned();
        let plain = |estimate: Estimate| {
            let [value, low, high] = [estimate.value, estimate.low, estimate.high].map(format::number);
            format!("{value} ({low} to {high})")
        };
        let difference = |contrast: &ScoreContrast| {
            let difference = contrast.difference;
            if contrast.is_share {
                let value = format::points(difference.value);
                format!("{value} ({})", format::points_interval(difference))
            } else {
                format!("{} ({})", format::signed(difference.value), format::signed_interval(difference))
            }
        };
        let detectable = |contrast: &ScoreContrast| {
            let detectable = contrast.detectable?;
            Some(if contrast.is_share {
                format::fixed(100.0 * detectable, 1)
            } else {
                format::number(detectable)
            })
        };
        let verdict = contrast.map(|contrast| contrast.verdict);
        Self {
            task: format!("{}{}", mean.task, if mean.lower_is_better { " (less is better)" } else { "" }),
            x: sweep.x.name(mean.x),
            series: mean.series.clone(),
            mean: if mean.is_share { format::percent_estimate(mean.mean) } else { plain(mean.mean) },
            difference: contrast.map_or_else(dash, difference),
            p_holm: contrast.map_or_else(dash, |contrast| format::p_value(contrast.p_holm)),
            conclusion: match verdict {
                None => "",
                Some(Verdict::Better) => "better",
                Some(Verdict::Worse) => "worse",
                Some(Verdict::Inconclusive) => "inconclusive",
            },
            significant: verdict.is_some_and(|verdict| verdict != Verdict::Inconclusive),
            detectable: contrast.and_then(detectable).unwrap_or_else(dash),
            seeds: contrast.map_or(mean.seeds, |contrast| contrast.seeds),
            questions: contrast.map_or(mean.questions, |contrast| contrast.questions),
        }
    }
}
