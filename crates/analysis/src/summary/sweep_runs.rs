//! Runs of a sweep as its summary needs them.

use std::collections::BTreeMap;

use prospect_runs::{Experiment, SweepDir};

use super::{
    finished_runs::{CellKey, FinishedRun, RunCounts, RunsByCell, XValues, count_runs, read_cells},
    identical::{IdenticalCells, identical_cells},
};
use crate::AnalysisError;

/// Finished runs by cell, and what the plan says about the others.
pub(super) struct SweepRuns<'a> {
    pub(super) experiment: &'a Experiment,
    pub(super) xs: XValues,
    pub(super) cells: RunsByCell<'a>,
    /// Counts of runs by cell, for every planned cell.
    pub(super) counts: BTreeMap<CellKey, RunCounts>,
    pub(super) identical: IdenticalCells,
}

impl<'a> SweepRuns<'a> {
    pub(super) fn read(sweep: &SweepDir, experiment: &'a Experiment) -> Result<Self, AnalysisError> {
        let xs = XValues::new(experiment);
        let cells = read_cells(sweep, experiment, &xs)?;
        let counts = count_runs(sweep, experiment, &xs);
        Ok(Self::new(experiment, xs, cells, counts))
    }

    pub(super) fn new(
        experiment: &'a Experiment,
        xs: XValues,
        cells: RunsByCell<'a>,
        counts: BTreeMap<CellKey, RunCounts>,
    ) -> Self {
        let primary = experiment.primary.as_ref().map(|primary| primary.series.as_str());
        let identical = identical_cells(&cells, &experiment.baseline, primary);
        Self { experiment, xs, cells, counts, identical }
    }

    /// Cell of the baseline at an x.
    pub(super) fn baseline_at(&self, x: usize) -> CellKey {
        CellKey { series: self.experiment.baseline.clone(), x }
    }

    /// Finished runs of a cell and of the baseline at the same x, over the seeds (and values of
    /// averaged settings) that both have.
    pub(super) fn paired_with_baseline(&self, cell: &CellKey) -> Option<[Vec<&FinishedRun<'a>>; 2]> {
        let (runs, baseline) = (self.cells.get(cell)?, self.cells.get(&self.baseline_at(cell.x))?);
        let averaged = self.experiment.averaged_settings();
        let is_partner = |run: &FinishedRun<'_>, other: &FinishedRun<'_>| {
            let [run, other] = [run, other].map(|run| run.planned);
            run.seed == other.seed
                && averaged.iter().all(|key| run.settings.get(*key) == other.settings.get(*key))
        };
        let shared = |runs: &'_ [FinishedRun<'a>], others: &[FinishedRun<'a>]| -> Vec<usize> {
            let has_partner = |run: &FinishedRun<'_>| others.iter().any(|other| is_partner(run, other));
            (0..runs.len()).filter(|index| has_partner(&runs[*index])).collect()
        };
        let ours: Vec<_> = shared(runs, baseline).into_iter().map(|index| &runs[index]).collect();
        let theirs: Vec<_> = shared(baseline, runs).into_iter().map(|index| &baseline[index]).collect();
        (!ours.is_empty()).then_some([ours, theirs])
    }

    /// Planned comparisons with the baseline that are not repetitions of others.
    pub(super) fn planned_comparisons(&self) -> usize {
        let is_counted = |cell: &&CellKey| {
            cell.series != self.experiment.baseline
                && self.counts.contains_key(&self.baseline_at(cell.x))
                && !self.identical.contains_key(*cell)
        };
        self.counts.keys().filter(is_counted).count()
    }

    /// Runs of a cell that failed or were stopped.
    pub(super) fn lost(&self, cell: &CellKey) -> usize {
        self.counts.get(cell).map_or(0, |counts| counts.lost)
    }

    /// Smallest and largest true utility in the sweep's datasets, if they have one.
    pub(super) fn utility_range(&self) -> Option<(f64, f64)> {
        let ranges = self.experiment.data.iter().filter_map(|data| data.truth().utility_range);
        ranges.reduce(|(low, high), range| (low.min(range.0), high.max(range.1)))
    }
}
