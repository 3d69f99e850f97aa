//! The statistics of comparing methods over seeds and held-out pairs.
//!
//! Every run of a sweep is judged on the same held-out pairs. So a difference of two methods is taken pair by pair
//! and seed by seed first ([`contrast`]), and two sources of chance remain: which prompts were held out, and which
//! seeds were run. [`estimate`] covers both; [`binomial_exact`] serves a single accuracy of independent pairs. [`holm`]
//! adjusts the p-values of many differences, [`Difference::seeds_needed`] plans the next sweep.
//!
//! ```
//! use prospect_eval::stats::{Outcome, contrast, estimate};
//!
//! // One list a seed, one outcome a held-out pair; two pairs share a prompt.
//! let run = |values: [f64; 3]| {
//!     let outcome = |pair, prompt, value| Outcome { pair, prompt, value };
//!     vec![outcome("a", "p", values[0]), outcome("b", "p", values[1]), outcome("c", "q", values[2])]
//! };
//! let kto = [run([1.0, 1.0, 0.0]), run([1.0, 0.5, 1.0])];
//! let dpo = [run([1.0, 0.0, 0.0]), run([0.0, 0.5, 1.0])];
//!
//! let accuracy = estimate(&kto)?;
//! assert_eq!(accuracy.value, 0.75);
//! let difference = contrast(&kto, &dpo)?.estimate();
//! assert!(difference.low <= difference.value && difference.value <= difference.high);
//! # Ok::<(), prospect_eval::stats::StatsError>(())
//! ```

mod binomial;
mod grid;
mod holm;
mod interval;
mod student;

pub use binomial::binomial_exact;
pub use holm::holm;
pub use interval::{Difference, contrast, estimate};

/// What one run made of one held-out pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome<'a> {
    /// The pair's id, the same in every run.
    pub pair: &'a str,
    /// The id of the pair's prompt; pairs of one prompt count as one draw.
    pub prompt: &'a str,
    /// The outcome: 0, ½ or 1 for an accuracy, any finite number for a margin.
    pub value: f64,
}

/// Why outcomes give no estimate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatsError {
    /// Nothing to estimate from.
    #[error("no estimate without {0}")]
    Without(&'static str),
    /// Two methods were run with different numbers of seeds.
    #[error("{0} and {1} seeds cannot be paired; compare the seeds that both methods have")]
    Seeds(usize, usize),
    /// The runs were judged on different pairs.
    #[error(
        "run {run} lacks the held-out pair {pair} of the first run, or has it twice; judge all runs on the same pairs"
    )]
    Pairs {
        /// Index of the run among those given.
        run: usize,
        /// The pair.
        pair: String,
    },
    /// An outcome is infinite or not a number.
    #[error("the outcome of pair {pair} in run {run} is {value}; the run diverged")]
    NotFinite {
        /// Index of the run among those given.
        run: usize,
        /// The pair.
        pair: String,
        /// The outcome.
        value: String,
    },
    /// More successes than trials.
    #[error("{successes} successes of {trials} trials")]
    Count {
        /// Successes given.
        successes: u64,
        /// Trials given.
        trials: u64,
    },
}
