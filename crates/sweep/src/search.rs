//! A search for the settings at which each series is at its best, before series are compared.
//!
//! Trials are drawn by series, so that each series has as many. With successive halving they are trained shortly first, and
//! the best go on to the next rung, until they are trained in full. Trials are ranked on one half of the held-out prompts
//! and the winners are compared on the other: whatever wins among many is lucky too, on the pairs where it won.

use std::collections::{BTreeMap, BTreeSet};

use prospect_analysis::validation::validation_accuracy;
pub(crate) use prospect_runs::{RUNG_KEY as RUNG, TRIAL_KEY as TRIAL};
use prospect_runs::{RunDir, SweepDir};

use crate::{Run, SweepError, experiment::SearchFile};

mod trials;

pub(crate) use trials::trials;

/// How trials go on from rung to rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Search {
    /// Trials of each cell.
    pub trials: usize,
    /// How often they are compared.
    pub rungs: usize,
    /// One of so many goes on, to runs so many times longer.
    pub factor: usize,
}

/// Which trial a run belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trial {
    /// The combination of swept settings within which trials compete.
    pub cell: usize,
    /// Which one, from 1.
    pub number: usize,
}

impl Search {
    pub(crate) fn of(raw: &SearchFile) -> Self {
        let (rungs, factor) =
            raw.halving.map_or((1, 1), |halving| (halving.rungs.get(), halving.factor.get()));
        Self { trials: raw.trials.get(), rungs, factor }
    }

    /// Trials of each cell in a rung, counted from 0.
    pub(crate) fn trials_in(self, rung: usize) -> usize {
        (0..rung).fold(self.trials, |trials, _| trials.div_ceil(self.factor))
    }

    /// The part of a whole run that is trained in a rung.
    pub(crate) fn share(self, rung: usize) -> f64 {
        (rung + 1..self.rungs).fold(1.0, |share, _| share / self.factor as f64)
    }

    /// The trials that win a rung: as many of each cell as go on, or one if the rung is the last. A cell of which a run is
    /// still to do has no winners yet, and a trial without a result for every seed does not win.
    pub(crate) fn winners(
        self,
        sweep: &SweepDir,
        runs: &[Run],
        rung: usize,
    ) -> Result<BTreeSet<Trial>, SweepError> {
        let mut cells: BTreeMap<usize, BTreeMap<Trial, Vec<RunDir>>> = BTreeMap::new();
        for run in runs {
            if let Some(trial) = run.trial {
                let of_cell = cells.entry(trial.cell).or_default();
                of_cell.entry(trial).or_default().push(sweep.run(&run.id));
            }
        }
        let most = if rung + 1 == self.rungs { 1 } else { self.trials_in(rung + 1) };
        let mut winners = BTreeSet::new();
        for trials in cells.into_values() {
            let over = |run: &RunDir| run.is_finished() || run.is_stopped() || run.has_failed();
            if !trials.values().flatten().all(over) {
                continue;
            }
            let mut ranked = Vec::new();
            for (trial, runs) in trials {
                if runs.iter().all(RunDir::is_finished) {
                    ranked.push((validation_accuracy(&runs)?, trial));
                }
            }
            // The best first; of equals, the one drawn first.
            ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            winners.extend(ranked.into_iter().take(most).map(|(_, trial)| trial));
        }
        Ok(winners)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rungs_are_longer_and_hold_fewer() {
        let search = Search { trials: 8, rungs: 3, factor: 3 };
        assert_eq!([0, 1, 2].map(|rung| search.trials_in(rung)), [8, 3, 1]);
        assert_eq!([0, 1, 2].map(|rung| search.share(rung)), [1.0 / 9.0, 1.0 / 3.0, 1.0]);
        let random = Search { trials: 8, rungs: 1, factor: 1 };
        assert_eq!((random.trials_in(0), random.share(0)), (8, 1.0));
    }
}
