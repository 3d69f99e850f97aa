//! Detectable difference of a comparison that has no results yet.

use super::{interval::detection_factor, variance::MeanVariance};

/// Assumed variation of the difference between two methods.
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
}
