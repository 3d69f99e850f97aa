//! The run directory: what a sweep leaves on disk, and nothing else.
//!
//! ```text
//! <sweep>/
//!   experiment.json        Experiment: the question, the planned runs, what to plot
//!   summary.json           Summary: estimates, contrasts and the verdict (after the last run)
//!   judges.json            one JudgeNote for each judge that was asked
//!   claims/<name>/         Claims: which process works on which run, stage or dataset
//!   runs/<id>/             RunDir; <id> is the fingerprint of the resolved settings
//!     config.json          resolved settings, written before work starts
//!     status.json          Status
//!     error.log            the error of a failed run, with all of its causes
//!     metrics.jsonl        one Record a line, TRL's metric names
//!     pairs.jsonl          one PairOutcome a line, of the evaluation at the end
//!     generations.jsonl    one Generation a line, where the experiment asks for them
//!     judgements.jsonl     one Judgement a line, where a judge was asked
//!     adapter/ or model/   what was trained
//! ```
//!
//! Stages exchange these files only, so the types here are the contract between the sweep and the report.

mod claims;
mod experiment;
mod judgement;
mod progress;
mod record;
mod run;

pub use claims::{Claim, Claims, Holder};
pub use experiment::{
    Axis, Calibration, CalibrationBin, Contrast, DataUse, Estimate, Experiment, Finding, Measure, PlannedRun,
    Point, Reference, Search, Sign, Stage, Summary, SweepDir, TrialResult, Verdict, WinRate, series_name,
};
pub use judgement::{JudgeNote, Judgement, Opponent};
pub use progress::{Progress, Stamp};
pub use record::{Generation, GenerationMode, Kind, PairOutcome, Record, last, preference};
pub use run::{Config, MetricsWriter, ModelSize, RunDir, State, Status};

/// Why a run or sweep directory cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RunsError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A file of the directory does not hold what it should.
    #[error("{file}: {source}")]
    Format {
        /// The file, with its line where it has lines.
        file: String,
        /// What the parser says.
        source: serde_json::Error,
    },
}
