//! Statistics for comparing methods over seeds and held-out pairs.
//!
//! Every run of a sweep is evaluated on the same held-out pairs. Differences between two methods
//! are therefore paired by held-out pair and by seed ([`contrast`]). Two sources of variance
//! remain: the sample of prompts and the sample of seeds. [`Sample`] estimates both.
//!
//! * Few seeds say little about the variance between seeds. [`pool_differences`] and
//!   [`pool_levels`] estimate it from all methods of a sweep.
//! * [`binomial_exact`] serves a single accuracy of independent pairs.
//! * [`pseudo_values`] turns any statistic of clustered rows, such as an AUC, into observations by
//!   cluster.
//! * [`holm`] adjusts p-values for multiple comparisons, and [`Difference::detectable`] is the
//!   smallest difference that a comparison detects with 80 % power. [`Variation`] predicts it before
//!   there are results.
//!
//! ```
//! use prospect_analysis::stats::{Observation, Scale, contrast, estimate};
//!
//! // One list per seed, one observation per held-out pair; two pairs share a prompt.
//! let run = |values: [f64; 3]| {
//!     let [a, b, c] = values;
//!     vec![
//!         Observation { pair: "a", prompt: "p", value: a },
//!         Observation { pair: "b", prompt: "p", value: b },
//!         Observation { pair: "c", prompt: "q", value: c },
//!     ]
//! };
//! let kto = [run([1.0, 1.0, 0.0]), run([1.0, 0.5, 1.0])];
//! let dpo = [run([1.0, 0.0, 0.0]), run([0.0, 0.5, 1.0])];
//!
//! let accuracy = estimate(&kto, Scale::Share)?;
//! assert_eq!(accuracy.value, 0.75);
//! let difference = contrast(&kto, &dpo, Scale::Share)?.estimate();
//! assert!(difference.low < difference.value && difference.value < difference.high);
//! # Ok::<(), prospect_analysis::stats::StatsError>(())
//! ```

mod aligned;
mod binomial;
mod holm;
mod interval;
mod jackknife;
mod seed_pool;
mod share;
mod smoothed;
mod student;
mod variance;
mod variation;

pub use binomial::{binomial_exact, binomial_exact_at};
pub use holm::holm;
pub use interval::{Difference, Sample, Scale, contrast, estimate};
pub use jackknife::pseudo_values;
pub use seed_pool::{DifferencePool, SeedLayout, SeedVariance, pool_differences, pool_levels};
pub use smoothed::smoothed_accuracies;
pub use variation::{MOST_PAIRS, Variation, deviation_interval};

/// Critical value of Student's t at a 95 % level with `degrees` of freedom.
pub(crate) fn critical_value(degrees: f64) -> f64 {
    student::critical(interval::ALPHA, degrees)
}

/// A run's result on one held-out pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation<'a> {
    /// Id of the pair, the same in every run.
    pub pair: &'a str,
    /// Cluster of the pair: pairs of one prompt are one draw. Any other key clusters as well.
    pub prompt: &'a str,
    /// Value: 0, ½ or 1 for an accuracy, any finite number for a margin.
    pub value: f64,
}

/// Error of observations that give no estimate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatsError {
    /// Nothing to estimate from.
    #[error("no estimate without {0}")]
    Without(&'static str),
    /// Two methods have different numbers of seeds.
    #[error("{0} and {1} seeds cannot be paired; compare the seeds that both methods have")]
    Seeds(usize, usize),
    /// The runs were evaluated on different pairs.
    #[error(
        "run {run} lacks the held-out pair {pair} of the first run, or has it twice; \
         evaluate all runs on the same pairs"
    )]
    Pairs {
        /// Index of the run.
        run: usize,
        /// Id of the pair.
        pair: String,
    },
    /// A value is infinite or not a number.
    #[error("the value of pair {pair} in run {run} is {value}; the run diverged")]
    NotFinite {
        /// Index of the run.
        run: usize,
        /// Id of the pair.
        pair: String,
        /// The value.
        value: String,
    },
    /// More successes than trials.
    #[error("{successes} successes of {trials} trials")]
    Count {
        /// Number of successes.
        successes: u64,
        /// Number of trials.
        trials: u64,
    },
}
