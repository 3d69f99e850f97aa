//! Quantities that series are estimated and compared by.

use super::{
    clustered::{Clustered, ClusteredSample},
    finished_runs::{FinishedRun, accuracies, margins, own_accuracies, utilities},
};
use crate::{
    AnalysisError,
    stats::{Scale, smoothed_accuracies},
    thumbs::{auc_terms, margin_terms, scores},
};

/// Observations of each run; None if the runs lack the quantity.
type Values = for<'r> fn(&[&'r FinishedRun<'r>]) -> Option<Clustered<'r>>;

/// Largest half-width of the interval of a difference of shares that allows a verdict.
pub(super) const WIDEST_SHARE: f64 = 0.25;

/// A quantity of runs, with the values that it can take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quantity {
    values: Values,
    scale: Scale,
}

impl Quantity {
    /// Share of held-out pairs whose chosen completion has the larger reward.
    pub(super) const ACCURACY: Self =
        Self { values: |runs| Clustered::pairs(runs, accuracies), scale: Scale::Share };

    /// Accuracy that counts how clearly a pair is ranked.
    pub(super) const SMOOTHED_ACCURACY: Self = Self {
        values: |runs| Clustered::pairs(runs, |run| smoothed_accuracies(&margins(run))),
        scale: Scale::Range { low: 0.0, high: 1.0 },
    };

    /// Accuracy by the score that the objective ranks by, for objectives without a reference.
    pub(super) const OWN_ACCURACY: Self = Self {
        values: |runs| {
            let known: Option<Vec<Vec<f64>>> = runs.iter().map(|run| own_accuracies(run)).collect();
            known.and_then(|_| Clustered::pairs(runs, |run| own_accuracies(run).unwrap_or_default()))
        },
        scale: Scale::Share,
    };

    /// AUC of held-out thumbs, for runs without pairs.
    pub(super) const AUC_WITHOUT_PAIRS: Self = Self {
        values: |runs| {
            let thumbs = || Clustered::thumbs(runs, |run| auc_terms(&scores(&run.thumbs)));
            if has_pairs(runs) { None } else { thumbs() }
        },
        scale: Scale::Range { low: 0.0, high: 1.0 },
    };

    /// Reward margin of held-out pairs; without pairs, between thumbs up and down.
    pub(super) const MARGIN: Self = Self {
        values: |runs| {
            let terms = |run: &FinishedRun<'_>| {
                Some(margin_terms(&run.thumbs)?.into_iter().map(|term| run.beta * term).collect())
            };
            if has_pairs(runs) { Clustered::pairs(runs, margins) } else { Clustered::thumbs(runs, terms) }
        },
        scale: Scale::Unbounded,
    };

    /// True utility of generations, which lies in `range` if that is known.
    pub(super) fn utility(range: Option<(f64, f64)>) -> Self {
        let scale = range.map_or(Scale::Unbounded, |(low, high)| Scale::Range { low, high });
        Self { values: |runs| utilities(runs).map(Clustered::by_prompt), scale }
    }

    /// Returns the quantity of `runs`; None if they lack it.
    pub(super) fn sample(&self, runs: &[&FinishedRun<'_>]) -> Result<Option<ClusteredSample>, AnalysisError> {
        let values = (self.values)(runs);
        Ok(values.map(|values| values.sample(self.scale)).transpose()?)
    }

    /// Largest half-width of a difference's interval that allows a verdict: a quarter of the range.
    pub(super) fn widest(&self) -> f64 {
        match self.scale {
            Scale::Share => WIDEST_SHARE,
            Scale::Range { low, high } => WIDEST_SHARE * (high - low),
            Scale::Unbounded => f64::INFINITY,
        }
    }
}

/// True if every run has held-out pairs, whose accuracy is then the headline measure.
pub(super) fn has_pairs(runs: &[&FinishedRun<'_>]) -> bool {
    runs.iter().all(|run| !run.pairs.is_empty())
}
