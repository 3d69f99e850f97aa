//! Series whose runs have the same results, such as robust DPO without noise and DPO.

use std::collections::BTreeMap;

use super::finished_runs::{CellKey, FinishedRun, RunsByCell};

/// Largest difference of equal log-ratios, relative to their size.
const TOLERANCE: f64 = 1e-9;

/// Cells whose results are those of another series at the same x, with the name of that series.
pub(super) type IdenticalCells = BTreeMap<CellKey, String>;

/// Finds cells with the same results as the `baseline`, as the series of the primary comparison, or
/// as an earlier series. Comparing them again would count one comparison twice. The primary
/// comparison is never the repetition of a secondary one.
pub(super) fn identical_cells(
    cells: &RunsByCell<'_>,
    baseline: &str,
    primary: Option<&str>,
) -> IdenticalCells {
    let mut distinct: Vec<(&CellKey, &Vec<FinishedRun<'_>>)> = Vec::new();
    let mut identical = IdenticalCells::new();
    let mut ordered: Vec<_> = cells.iter().collect();
    // Stable, so that the other series keep their order.
    ordered.sort_by_key(|(cell, _)| (cell.series != baseline, Some(cell.series.as_str()) != primary));
    for (cell, runs) in ordered {
        let twin = distinct
            .iter()
            .find(|(other, runs_of_other)| other.x == cell.x && have_same_results(runs, runs_of_other));
        match twin {
            Some((other, _)) => {
                identical.insert(cell.clone(), other.series.clone());
            }
            None => distinct.push((cell, runs)),
        }
    }
    identical
}

fn have_same_results(a: &[FinishedRun<'_>], b: &[FinishedRun<'_>]) -> bool {
    let is_same = |a: f64, b: f64| (a - b).abs() <= TOLERANCE * a.abs().max(b.abs());
    let same_pairs = |a: &FinishedRun<'_>, b: &FinishedRun<'_>| {
        a.pairs.len() == b.pairs.len()
            && a.pairs.iter().zip(&b.pairs).all(|(a, b)| {
                a.pair_id == b.pair_id && is_same(a.chosen, b.chosen) && is_same(a.rejected, b.rejected)
            })
    };
    let same_thumbs = |a: &FinishedRun<'_>, b: &FinishedRun<'_>| {
        let thumbs = a.thumbs.iter().zip(&b.thumbs);
        a.thumbs.len() == b.thumbs.len()
            && thumbs.into_iter().all(|(a, b)| a.id == b.id && is_same(a.log_ratio, b.log_ratio))
    };
    let is_same_run = |a: &FinishedRun<'_>, b: &FinishedRun<'_>| {
        a.planned.seed == b.planned.seed
            && !(a.pairs.is_empty() && a.thumbs.is_empty())
            && same_pairs(a, b)
            && same_thumbs(a, b)
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same_run(a, b))
}
