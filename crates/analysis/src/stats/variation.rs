//! Detectable difference of a comparison that has no results yet.

use statrs::function::gamma::checked_gamma_lr;

use super::{interval::detection_factor, variance::MeanVariance};

/// Most pairs that [`Variation::pairs_needed`] considers.
pub const MOST_PAIRS: usize = 1_000_000;

/// Variation of the difference between two methods, assumed or measured
/// ([`Difference::variation`](super::Difference::variation)).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Variation {
    /// Standard deviation between seeds of the mean difference over infinitely many pairs.
    pub seed_deviation: f64,
    /// Variance of a pair's difference between prompts.
    pub prompt: f64,
    /// Residual variance of a pair's difference under one seed.
    pub residual: f64,
}

impl Variation {
    /// DPO and KTO at 65 % accuracy, if they rank a fifth of the pairs differently: what a
    /// comparison is planned with before there are results.
    pub const ASSUMED: Self = Self { seed_deviation: 0.012, prompt: 0.1, residual: 0.1 };

    /// Returns the difference that a test at the two-sided level `alpha` detects with 80 % power,
    /// given seeds, pairs of different prompts, and the comparisons that the variance between seeds
    /// is pooled over.
    pub fn detectable(&self, seeds: usize, pairs: usize, comparisons: usize, alpha: f64) -> f64 {
        let (seeds, pairs) = (seeds.max(2) as f64, pairs.max(2) as f64);
        let variance = MeanVariance {
            seed: (self.seed_deviation.powi(2) + self.residual / pairs) / seeds,
            seed_df: comparisons as f64 * (seeds - 1.0),
            prompt: self.prompt / pairs,
            prompt_df: pairs - 1.0,
        };
        detection_factor(&variance, alpha) * variance.total().sqrt()
    }

    /// Returns the smallest number of pairs of different prompts with which a test detects a
    /// difference of `gain` with 80 % power; None if no number up to [`MOST_PAIRS`] does, because
    /// the seeds vary too much. The other arguments are those of [`detectable`](Self::detectable).
    pub fn pairs_needed(&self, gain: f64, seeds: usize, comparisons: usize, alpha: f64) -> Option<usize> {
        let detects = |pairs: usize| self.detectable(seeds, pairs, comparisons, alpha) <= gain;
        if !detects(MOST_PAIRS) {
            return None;
        }
        let (mut low, mut high) = (1, MOST_PAIRS);
        while low + 1 < high {
            let middle = usize::midpoint(low, high);
            if detects(middle) {
                high = middle;
            } else {
                low = middle;
            }
        }
        Some(high)
    }
}

/// 95 % confidence interval of a standard deviation that is estimated with `df` degrees of freedom.
pub fn deviation_interval(deviation: f64, df: f64) -> [f64; 2] {
    // The chi-squared quantile q at p solves P(df/2, q/2) = p; it is bracketed and halved, as those
    // of Student's t are.
    let quantile = |p: f64| {
        let below = |q: f64| checked_gamma_lr(df / 2.0, q / 2.0).unwrap_or(1.0) < p;
        let (mut low, mut high) = (0.0, 1.0);
        while below(high) && high < 1e12 {
            (low, high) = (high, 2.0 * high);
        }
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if below(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        f64::midpoint(low, high)
    };
    [0.975, 0.025].map(|p| deviation * (df / quantile(p)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_seeds_and_pairs_approach_the_normal_approximation() {
        let variation = Variation { seed_deviation: 0.01, prompt: 0.1, residual: 0.1 };
        let detectable = variation.detectable(500, 5000, 1, 0.05);
        let deviation = (0.0001_f64 / 500.0 + 0.1 / 2_500_000.0 + 0.1 / 5000.0).sqrt();
        // Normal quantiles of 97.5 and 80 %.
        assert!((detectable / deviation - (1.959_964 + 0.841_621)).abs() < 0.01, "{detectable}");
        assert!(variation.detectable(3, 5000, 1, 0.05) > 1.5 * detectable);
        assert!(variation.detectable(500, 50, 1, 0.05) > 8.0 * detectable);
        assert!(variation.detectable(3, 200, 4, 0.05) < variation.detectable(3, 200, 1, 0.05));
    }

    #[test]
    fn the_pairs_needed_are_the_fewest_that_detect_the_gain() {
        let variation = Variation::ASSUMED;
        let pairs = variation.pairs_needed(0.05, 8, 1, 0.05).unwrap();
        assert!(variation.detectable(8, pairs, 1, 0.05) <= 0.05);
        assert!(variation.detectable(8, pairs - 1, 1, 0.05) > 0.05);
        // Two seeds alone leave more than two points of uncertainty, whatever the pairs.
        assert_eq!(variation.pairs_needed(0.02, 2, 1, 0.05), None);
    }

    #[test]
    fn intervals_of_deviations_match_published_quantiles() {
        // Chi-squared with 9 degrees of freedom: 2.700389 at 2.5 % and 19.022768 at 97.5 %.
        let [low, high] = deviation_interval(2.0, 9.0);
        assert!((low - 2.0 * (9.0_f64 / 19.022_768).sqrt()).abs() < 1e-6, "{low}");
        assert!((high - 2.0 * (9.0_f64 / 2.700_389).sqrt()).abs() < 1e-5, "{high}");
    }
}
