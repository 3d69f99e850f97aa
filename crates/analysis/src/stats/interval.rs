//! Intervals over seeds and prompts from the variance components of each.

use prospect_runs::Estimate;

use super::{
    Observation, SeedVariance, StatsError, Variation,
    aligned::AlignedRuns,
    share::{ClusteredShare, exact},
    variance::{MeanSquares, MeanVariance, average, deviations_by_prompt},
};

/// Probability outside a 95 % interval.
pub(super) const ALPHA: f64 = 0.05;

/// Probability of missing a difference of the size that [`Difference::detectable`] gives.
const MISS: f64 = 0.2;

/// Values that a measure can take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// 0, ½ or 1 for each observation, as in accuracies and win rates.
    Share,
    /// Any number between two ends.
    Range {
        /// Smallest possible value.
        low: f64,
        /// Largest possible value.
        high: f64,
    },
    /// Any finite number.
    Unbounded,
}

/// Runs of one method over seeds, evaluated on the same pairs.
///
/// Seeds and prompts are crossed: every run is evaluated on the same prompts. Let `A` be the
/// variance of the mean due to seeds and `B` that due to prompts, both from the mean squares of the
/// two-way layout. The interval is t·√(A + B), where t has Satterthwaite's degrees of freedom.
///
/// * `A` is at least the residual mean square, which is part of it by definition. Seeds that agree
///   better do so by luck. It may come from other methods as well ([`super::pool_levels`]).
/// * With one seed there is no `A`, and the interval is conditional on that seed.
/// * A share has the exact binomial interval of as many independent trials as give the same variance
///   (Korn and Graubard, 1998); one run of unclustered pairs has the exact binomial interval itself.
/// * No interval has zero width. For other measures `B` is at least the variance that one further
///   prompt at the other end of the observed values would add.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    aligned: AlignedRuns,
    scale: Scale,
    squares: MeanSquares,
}

impl Sample {
    /// Aligns the observations: one list for each seed, all over the same pairs in any order.
    pub fn new(observations: &[Vec<Observation<'_>>], scale: Scale) -> Result<Self, StatsError> {
        let aligned = AlignedRuns::align(observations)?;
        let squares = MeanSquares::new(&aligned);
        Ok(Self { aligned, scale, squares })
    }

    /// Returns the mean of each run, in the order given.
    pub fn run_means(&self) -> Vec<f64> {
        self.aligned.runs.iter().map(|run| average(run)).collect()
    }

    /// Returns the value of each prompt, by run: numbers whose average is the mean of the run.
    pub fn by_prompt(&self) -> Vec<Vec<f64>> {
        let rows = deviations_by_prompt(&self.aligned, self.squares.mean);
        rows.into_iter().map(|row| row.iter().map(|value| value + self.squares.mean).collect()).collect()
    }

    /// Returns the mean with its 95 % interval.
    pub fn estimate(&self) -> Estimate {
        self.estimate_with(None)
    }

    /// Returns the mean with its 95 % interval, given the variance between seeds; None estimates it
    /// from the sample.
    pub fn estimate_with(&self, seeds: Option<SeedVariance>) -> Estimate {
        let value = self.squares.mean;
        if self.scale != Scale::Share {
            let variance = self.variance(seeds);
            let half = variance.critical(ALPHA) * variance.total().sqrt();
            return Estimate { value, low: value - half, high: value + half };
        }
        if self.is_unclustered() {
            let trials = self.aligned.prompts.len() as f64;
            let [low, high] = exact(value * trials, trials, ALPHA);
            return Estimate { value, low, high };
        }
        self.share(seeds).estimate(ALPHA)
    }

    /// Returns the p-value of the mean against a fixed `value`: the level at which the interval
    /// ends there. It is 1 with one seed, whose luck is unknown.
    pub fn p_value_against(&self, value: f64, seeds: Option<SeedVariance>) -> f64 {
        match self.scale {
            _ if self.squares.seeds < 2 => 1.0,
            Scale::Share => self.share(seeds).p_value(value),
            _ => self.variance(seeds).p_value(self.squares.mean - value),
        }
    }

    /// Returns `self − other`, paired by seed (same index in both) and held-out pair.
    pub fn minus(&self, other: &Self) -> Result<Difference, StatsError> {
        let squares = MeanSquares::new(&self.aligned.minus(&other.aligned)?);
        let prompts = squares.prompts as f64;
        let is_share = self.scale == Scale::Share;
        // One additional prompt with the opposite result, as in Agresti and Min (2005) for matched
        // proportions: 50 prompts without a difference do not show that there is none.
        let prompt_variance = if is_share {
            squares.prompt_variance() + prompts.powi(-2)
        } else {
            let spread = self.spread().max(other.spread());
            squares.prompt_variance().max((self.range(spread, squares.mean) / prompts).powi(2))
        };
        let pairs = self.aligned.prompts.len();
        Ok(Difference { squares, prompt_variance, seed_variance: None, pairs, is_share })
    }

    /// Returns this share, clustered by prompt.
    fn share(&self, seeds: Option<SeedVariance>) -> ClusteredShare {
        ClusteredShare {
            share: self.squares.mean,
            variance: self.variance(seeds),
            trials: (self.squares.seeds * self.aligned.prompts.len()) as f64,
            clusters: self.squares.prompts as f64,
        }
    }

    fn variance(&self, seeds: Option<SeedVariance>) -> MeanVariance {
        let prompts = self.squares.prompt_variance();
        let least = match self.scale {
            Scale::Share => 0.0,
            _ => (self.range(self.spread(), self.squares.mean) / self.squares.prompts as f64).powi(2),
        };
        self.squares.variance(seeds, prompts.max(least))
    }

    fn is_unclustered(&self) -> bool {
        self.squares.seeds == 1 && self.squares.prompts == self.aligned.prompts.len()
    }

    /// Difference between the largest and the smallest value.
    fn spread(&self) -> f64 {
        let values = || self.aligned.runs.iter().flatten().copied();
        values().fold(f64::NEG_INFINITY, f64::max) - values().fold(f64::INFINITY, f64::min)
    }

    /// Largest deviation of a further prompt: the observed `spread`; without any, the possible one,
    /// or the size of the `mean`.
    fn range(&self, spread: f64, mean: f64) -> f64 {
        match self.scale {
            _ if spread > 0.0 => spread,
            Scale::Range { low, high } => high - low,
            _ if mean != 0.0 => mean.abs(),
            _ => 1.0,
        }
    }
}

/// Mean over seeds and pairs with its 95 % interval; see [`Sample`].
///
/// `observations` has one list per seed, all over the same pairs in any order.
pub fn estimate(observations: &[Vec<Observation<'_>>], scale: Scale) -> Result<Estimate, StatsError> {
    Ok(Sample::new(observations, scale)?.estimate())
}

/// Mean of `a − b`, paired by seed (same index in both lists) and held-out pair.
/// `contrast(b, a, …)` is the exact negative.
pub fn contrast(
    a: &[Vec<Observation<'_>>],
    b: &[Vec<Observation<'_>>],
    scale: Scale,
) -> Result<Difference, StatsError> {
    Sample::new(a, scale)?.minus(&Sample::new(b, scale)?)
}

/// Difference between two methods.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    squares: MeanSquares,
    prompt_variance: f64,
    seed_variance: Option<SeedVariance>,
    pairs: usize,
    is_share: bool,
}

impl Difference {
    /// Takes the variance between seeds from all methods of a sweep; see
    /// [`super::pool_differences`]. None keeps the difference's own.
    #[must_use]
    pub fn with_seed_variance(self, seed_variance: Option<SeedVariance>) -> Self {
        Self { seed_variance, ..self }
    }

    /// Returns the difference's own variance between seeds; None with one seed.
    pub fn own_seed_variance(&self) -> Option<SeedVariance> {
        self.squares.seed_variance()
    }

    /// Mean difference.
    pub fn mean(&self) -> f64 {
        self.squares.mean
    }

    /// Number of seeds.
    pub fn seeds(&self) -> usize {
        self.squares.seeds
    }

    /// Number of held-out pairs.
    pub fn pairs(&self) -> usize {
        self.pairs
    }

    /// Difference with its 95 % interval.
    pub fn estimate(&self) -> Estimate {
        self.estimate_at(ALPHA)
    }

    /// Returns the difference with its interval of level 1 − `alpha`.
    pub fn estimate_at(&self, alpha: f64) -> Estimate {
        let (value, half) = (self.squares.mean, self.half_width(alpha));
        let estimate = Estimate { value, low: value - half, high: value + half };
        if self.is_share { estimate.clamped(-1.0, 1.0) } else { estimate }
    }

    /// Returns half the width of the interval of level 1 − `alpha`.
    pub fn half_width(&self, alpha: f64) -> f64 {
        let variance = self.variance();
        variance.critical(alpha) * variance.total().sqrt()
    }

    /// Returns the level at which the interval ends at 0. It is 1 with one seed, whose luck is
    /// unknown, and if nothing differs.
    pub fn p_value(&self) -> f64 {
        if self.squares.mean == 0.0 || self.squares.seeds < 2 {
            return 1.0;
        }
        self.variance().p_value(self.squares.mean)
    }

    /// Returns the true difference that a test at the two-sided level `alpha` detects with 80 %
    /// power, given the estimated variance; None with one seed.
    pub fn detectable(&self, alpha: f64) -> Option<f64> {
        let variance = self.variance();
        (self.squares.seeds > 1).then(|| detection_factor(&variance, alpha) * variance.total().sqrt())
    }

    /// Returns the variation of one pair and one seed, with which further comparisons can be
    /// planned, and the degrees of freedom of its part between seeds; None with one seed. The
    /// variance between seeds is the pooled one, if there is one.
    pub fn variation(&self) -> Option<(Variation, f64)> {
        let seeds = self.seed_variance.or_else(|| self.own_seed_variance())?;
        let prompts = self.squares.prompts as f64;
        let prompt = (self.squares.prompt - self.squares.residual) / self.squares.seeds as f64;
        let seed = seeds.variance - self.squares.residual / prompts;
        Some((
            Variation {
                seed_deviation: seed.max(0.0).sqrt(),
                prompt: prompt.max(0.0),
                residual: self.squares.residual,
            },
            seeds.df,
        ))
    }

    fn variance(&self) -> MeanVariance {
        self.squares.variance(self.seed_variance, self.prompt_variance)
    }
}

/// Difference in standard errors that a test at the two-sided level `alpha` detects with 80 %
/// power.
pub(super) fn detection_factor(variance: &MeanVariance, alpha: f64) -> f64 {
    variance.critical(alpha) + variance.critical(2.0 * MISS)
}

#[cfg(test)]
mod tests;
