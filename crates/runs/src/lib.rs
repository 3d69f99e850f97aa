//! The run directory: files of a sweep and the types that read and write them.
//!
//! ```text
//! <sweep>/
//!   experiment.json        Experiment: question, planned runs, axes of the report
//!   summary.json           Summary: estimates, contrasts and verdict (after the last run)
//!   judges.json            one JudgeNote per judge that was asked or imported
//!   jobs.json              JobsRecord: number of parallel runs, if it was chosen by measuring
//!   claims/<name>/         Claims: the process that works on a run, stage or dataset
//!   runs/<id>/             RunDir; <id> is the fingerprint of the resolved settings
//!     config.json          RunConfig, written before training starts
//!     status.json          Status
//!     error.log            error of a failed run, with all of its causes
//!     metrics.jsonl        one MetricsRecord per line, with TRL's metric names
//!     pairs.jsonl          one PairOutcome per line, from the last evaluation
//!     thumbs.jsonl         one ThumbOutcome per line, from the last evaluation
//!     generations.jsonl    one Generation per line, if the experiment asks for generations
//!     generations.json     GenerationSource, if another engine made the generations
//!     samples.jsonl        one PolicySample per line, if it asks for samples during training
//!     questions.jsonl      one QuestionOutcome per line, if it has capability tests
//!     judgements.jsonl     one Judgement per line, if a judge was asked or its answers imported
//!     scores.jsonl         one ImportedScore per line, if scores of another tool were imported
//!     adapter/ or model/   trained weights
//! ```
//!
//! Stages exchange these files only. The types here are the contract between training, analysis and
//! reports.
//!
//! ```
//! use prospect_runs::{MetricsRecord, RecordKind, RunConfig, SweepDir, last};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().to_owned();
//! let run = SweepDir::at(path).run("3f2a");
//! run.begin(&RunConfig { seed: 1, ..RunConfig::default() })?;
//! let values = [("loss".to_owned(), 0.69)].into();
//! run.metrics_writer()?.append(&MetricsRecord { kind: RecordKind::Train, step: 1, values })?;
//! assert_eq!(last(&run.metrics()?, "loss"), Some(0.69));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod capabilities;
mod claims;
mod comparison;
mod jobs;
mod json;
mod judgement;
mod plan;
mod progress;
mod records;
mod run_config;
mod run_dir;
mod run_names;
mod summary;
mod sweep_dir;

pub use capabilities::{CapabilityTest, QuestionAnswer, QuestionOutcome};
pub use claims::{Claim, Claims, Holder};
pub use comparison::{Comparison, ComparisonRequest, CostUnit, Look, LookResult, MethodCost, PlannedLook};
pub use jobs::{JobsRecord, RoundTime};
pub use judgement::{ImportedScore, JudgeNote, Judgement, JudgementImport, Opponent};
pub use plan::{
    Axis, DataUse, Experiment, PlannedRun, PrimaryContrast, PublishedResults, RUNG_KEY, Resample, Search,
    Stage, TRIAL_KEY, TrainedStart, TrueUtility, averaged_settings, describe_settings, series_name,
};
pub use progress::{Stamp, SweepProgress};
pub use records::{
    Generation, GenerationMode, GenerationSource, MetricsRecord, PairOutcome, PolicySample, RecordKind,
    ThumbOutcome, last, preference,
};
pub use run_config::{ModelSize, RecordedObjective, RecordedOptions, RecordedSettings, RunConfig};
pub use run_dir::{MetricsWriter, RunDir, State, Status};
pub use run_names::run_names;
pub use summary::{
    Calibration, CalibrationBin, Contrast, Estimate, Finding, FrontierPoint, FrontierReward, LearningCurve,
    LearningCurves, LearningPoint, Measure, NoVerdict, Point, ReliabilityBin, Retention, RewardKind,
    ScoreContrast, ScoreMean, Sign, Summary, ThumbEstimates, TrialResult, Verdict, WinRate, WinRateContrast,
};
pub use sweep_dir::SweepDir;

/// Error of reading or writing a run or sweep directory.
#[derive(Debug, thiserror::Error)]
pub enum RunsError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A file has other contents than its type.
    #[error("{file}: {source}")]
    Format {
        /// Path of the file, with the line in files of lines.
        file: String,
        /// Error of the parser.
        source: serde_json::Error,
    },
}
