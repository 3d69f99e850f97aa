//! Hyperparameter search, before series are compared.
//!
//! Every series gets the same number of trials. With successive halving, trials train briefly first
//! and the best continue to the next rung, until they train in full. Trials are ranked on one half
//! of the held-out prompts and the winners are compared on the other half: the best of many trials
//! is also the luckiest on the pairs it was chosen by.

use std::collections::{BTreeMap, BTreeSet};

use prospect_analysis::validation::validation_accuracy;
use prospect_runs::RunDir;

use crate::{SweepError, config::SearchFile};

mod trials;

pub(crate) use trials::{Combination, combinations_with_trials};

/// Key of the trial's number among a run's settings.
pub(crate) const TRIAL: &str = "trial";
/// Key of the rung's number among a run's settings.
pub(crate) const RUNG: &str = "rung";

/// Number of trials and their successive halving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchPlan {
    /// Trials of each cell in the first rung.
    pub trials: usize,
    /// Number of rungs.
    pub rungs: usize,
    /// Reduction factor: from rung to rung, one in this many trials continues, in runs this many
    /// times longer.
    pub factor: usize,
}

/// Trial that a run belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrialId {
    /// Index of the combination of swept settings within which trials compete.
    pub cell: usize,
    /// Number within the cell, from 1.
    pub number: usize,
}

impl SearchPlan {
    pub(crate) fn new(raw: &SearchFile) -> Self {
        let (rungs, factor) =
            raw.halving.map_or((1, 1), |halving| (halving.rungs.get(), halving.factor.get()));
        Self { trials: raw.trials.get(), rungs, factor }
    }

    /// Returns the trials of each cell in a rung, counted from 0.
    pub(crate) fn trials_in(self, rung: usize) -> usize {
        (0..rung).fold(self.trials, |trials, _| trials.div_ceil(self.factor))
    }

    /// Returns the fraction of a full run that a rung trains.
    pub(crate) fn fraction(self, rung: usize) -> f64 {
        (rung + 1..self.rungs).fold(1.0, |fraction, _| fraction / self.factor as f64)
    }

    /// Returns the trials that win a rung, given its `runs`.
    ///
    /// From each cell, these are the trials that continue, or one if the rung is the last. A cell
    /// with unfinished runs has no winners yet. A trial without a result for every seed cannot win.
    pub(crate) fn winners(
        self,
        runs: impl IntoIterator<Item = (TrialId, RunDir)>,
        rung: usize,
    ) -> Result<BTreeSet<TrialId>, SweepError> {
        let mut cells: BTreeMap<usize, BTreeMap<TrialId, Vec<RunDir>>> = BTreeMap::new();
        for (trial, run) in runs {
            cells.entry(trial.cell).or_default().entry(trial).or_default().push(run);
        }
        let count = if rung + 1 == self.rungs { 1 } else { self.trials_in(rung + 1) };
        let mut winners = BTreeSet::new();
        for trials in cells.into_values() {
            let has_ended = |run: &RunDir| run.is_finished() || run.is_stopped() || run.has_failed();
            if !trials.values().flatten().all(has_ended) {
                continue;
            }
            let mut ranked = Vec::new();
            for (trial, runs) in trials {
                if runs.iter().all(RunDir::is_finished) {
                    ranked.push((validation_accuracy(&runs)?, trial));
                }
            }
            // The best first; ties go to the trial that was drawn first.
            ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            winners.extend(ranked.into_iter().take(count).map(|(_, trial)| trial));
        }
        Ok(winners)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_rungs_are_longer_and_have_fewer_trials() {
        let search = SearchPlan { trials: 8, rungs: 3, factor: 3 };
        assert_eq!([0, 1, 2].map(|rung| search.trials_in(rung)), [8, 3, 1]);
        assert_eq!([0, 1, 2].map(|rung| search.fraction(rung)), [1.0 / 9.0, 1.0 / 3.0, 1.0]);
        let random = SearchPlan { trials: 8, rungs: 1, factor: 1 };
        assert_eq!((random.trials_in(0), random.fraction(0)), (8, 1.0));
    }
}
