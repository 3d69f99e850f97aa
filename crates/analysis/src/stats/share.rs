//! Interval of a share from clustered trials.

use prospect_runs::Estimate;
use statrs::function::{beta::inv_beta_reg, erf::erfc_inv};

use super::variance::{MeanVariance, level_of};

/// Variance of a trial below which all trials have one outcome, up to rounding.
const ONE_OUTCOME: f64 = 1e-12;

/// A share whose trials are clustered, with an interval that is never empty.
///
/// The interval is that of Korn and Graubard (1998): the exact binomial interval of as many
/// independent trials as give the same variance, reduced by the ratio of the normal to Student's
/// quantile for the uncertainty of that variance. Near 0 and 1 it is asymmetric, and it stays
/// within both.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ClusteredShare {
    pub(super) share: f64,
    pub(super) variance: MeanVariance,
    /// Number of trials, the most that the effective number can be.
    pub(super) trials: f64,
    /// Number of clusters: the effective number of trials if all have one outcome.
    pub(super) clusters: f64,
}

impl ClusteredShare {
    pub(super) fn interval(&self, alpha: f64) -> [f64; 2] {
        let variance = self.share * (1.0 - self.share);
        let trials = if variance > ONE_OUTCOME {
            // Student's quantile exceeds the normal one.
            let ratio = std::f64::consts::SQRT_2 * erfc_inv(alpha) / self.variance.critical(alpha);
            (variance / self.variance.total() * ratio * ratio).min(self.trials)
        } else {
            self.clusters
        };
        exact(self.share * trials, trials, alpha)
    }

    pub(super) fn estimate(&self, alpha: f64) -> Estimate {
        let [low, high] = self.interval(alpha);
        Estimate { value: self.share, low: low.min(self.share), high: high.max(self.share) }
    }

    /// Returns the level at which the interval ends at `value`.
    pub(super) fn p_value(&self, value: f64) -> f64 {
        level_of(|alpha| {
            let [low, high] = self.interval(alpha);
            low < value && value < high
        })
    }
}

/// Returns the exact (Clopper–Pearson) interval of level 1 − `alpha` for `successes` of `trials`,
/// both possibly fractions.
pub(super) fn exact(successes: f64, trials: f64, alpha: f64) -> [f64; 2] {
    [lower(successes, trials, alpha), 1.0 - lower(trials - successes, trials, alpha)]
}

/// Lower end: the probability of success under which at least `successes` of `trials` has
/// probability `alpha`/2, a quantile of Beta(successes, trials − successes + 1).
fn lower(successes: f64, trials: f64, alpha: f64) -> f64 {
    if successes <= 0.0 {
        return 0.0;
    }
    inv_beta_reg(successes, trials - successes + 1.0, alpha / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(share: f64, variance: f64) -> ClusteredShare {
        let variance = MeanVariance { seed: 0.0, seed_df: 1.0, prompt: variance, prompt_df: 1e9 };
        ClusteredShare { share, variance, trials: 300.0, clusters: 100.0 }
    }

    #[test]
    fn independent_trials_have_the_exact_binomial_interval() {
        // R: binom.test(80, 100)$conf.int
        let [low, high] = share(0.8, 0.8 * 0.2 / 100.0).interval(0.05);
        assert!((low - 0.708_157).abs() < 1e-5 && (high - 0.873_344).abs() < 1e-5, "{low} {high}");
        // One outcome in all clusters: 1 − 0.025^(1/100).
        let [low, high] = share(0.0, 0.0).interval(0.05);
        assert!(low == 0.0 && (high - (1.0 - 0.025_f64.powf(0.01))).abs() < 1e-9, "{high}");
    }

    #[test]
    fn the_p_value_is_the_level_at_which_the_interval_ends_at_the_value() {
        let share = share(0.6, 0.003);
        let [low, _] = share.interval(0.05);
        assert!((share.p_value(low) - 0.05).abs() < 1e-6);
        assert!(share.p_value(0.6) > 0.99 && share.p_value(0.0) < 1e-9);
    }
}
