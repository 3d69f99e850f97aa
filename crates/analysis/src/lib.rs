//! Statistics, summaries and diagnosis of finished runs.
//!
//! [`summarise`] reads a sweep's directory and writes its `summary.json`: estimates with 95 %
//! intervals, differences from the baseline, win rates, and a verdict in words. It is built from
//!
//! * [`stats`]: intervals and tests for observations that share seeds and prompts;
//! * [`calibration`]: expected calibration error of the preferences that rewards imply;
//! * [`thumbs`]: measures of labelled completions that need not be pairs;
//! * [`label_errors`]: labels that held-out policies dispute, and the share of flipped ones;
//! * [`learning_curve`]: accuracy over the number of training rows, extrapolated;
//! * [`diagnose`]: symptoms of training faults, read from a run's metrics;
//! * [`validation`]: the held-out prompts that a search selects settings on;
//! * [`sequential`]: comparisons that are looked at after more and more seeds.
//!
//! The crate reads run directories only. It depends on neither tensors nor datasets, so reports and
//! command-line tools link it cheaply.
//!
//! ```
//! use prospect_analysis::stats::binomial_exact;
//!
//! let accuracy = binomial_exact(8, 10)?;
//! assert_eq!((accuracy.value, accuracy.low < 0.45), (0.8, true));
//! # Ok::<(), prospect_analysis::stats::StatsError>(())
//! ```

mod calibration;
mod diagnosis;
pub mod label_errors;
pub mod learning_curve;
pub mod sequential;
pub mod stats;
mod summary;
pub mod thumbs;
pub mod validation;

pub use calibration::calibration;
pub use diagnosis::{Diagnosis, HeldOutResult, diagnose, has_clamped_reference_point};
pub use summary::{MeasuredVariation, measured_variations, summarise};

/// Error of summarising a sweep.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// A file of the sweep cannot be read or written.
    #[error(transparent)]
    Runs(#[from] prospect_runs::RunsError),
    /// The observations give no estimate.
    #[error(transparent)]
    Stats(#[from] stats::StatsError),
    /// One half of the held-out prompts has no pairs.
    #[error(
        "`search` ranks trials on one half of the held-out prompts and compares series on the other; \
         of {pairs} pairs or thumbs {validation} are in the first half, which needs both labels of thumbs: hold out more prompts"
    )]
    Validation {
        /// Held-out pairs.
        pairs: usize,
        /// Pairs in the half that trials are ranked on.
        validation: usize,
    },
}
