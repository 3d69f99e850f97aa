//! Experiment file to plan to executed runs.
//!
//! An [`ExperimentFile`] (`experiments/*.yaml`) asks one question. [`Plan::new`] resolves it: every combination of
//! `linked` and `matrix` settings with every seed is a run, named by the fingerprint of all that its result depends
//! on. [`execute`] does what is missing: datasets, the shared SFT stage, runs. [`prospect_analysis::summarise`] turns
//! finished runs into the summary that the report shows; [`standing`] tells how far a sweep has come,
//! [`estimate`] what it will take, [`rooms`] how much memory, [`budgets`] how long each series trains.
//!
//! Settings are addressed by dotted keys: `data.…` (the data recipe), `model.…` (the model recipe), `train.…` and `sft.…`;
//! `data` and `model` alone are the recipes themselves.

mod budget;
mod condition;
mod cost;
mod documents;
mod exclude;
mod execute;
mod experiment;
mod observe;
mod only;
mod plan;
mod reference;
mod room;
mod search;
mod slurm;
mod standing;

pub use budget::{Budget, Budgets, budgets};
pub use condition::RunState;
pub use cost::{Cost, KindCost, Place, estimate};
pub use execute::{Executed, Execution, Others, announce, execute, left};
pub use experiment::{
    Below, CheckpointsFile, DrawnFile, EvaluateFile, Experiment, ExperimentFile, GenerationsFile, Groups,
    HalvingFile, ReferenceFile, ReportFile, SearchFile, Sources, StopFile,
};
pub use only::Only;
pub use plan::{Plan, Run, check};
pub use room::{Room, Spread, rooms};
pub use search::{Search, Trial};
pub use slurm::{Preparation, Prepares, Profile, ProfileFile, SlurmStanding, Submission, Submitted, Task};
pub use standing::{Left, RunStanding, SweepStatus, standing};

/// Why a sweep cannot be planned or run.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A configuration cannot be used.
    #[error(transparent)]
    Config(#[from] prospect_core::config::ConfigError),
    /// A dataset cannot be prepared or read.
    #[error(transparent)]
    Data(#[from] prospect_data::DataError),
    /// A model cannot be loaded or saved.
    #[error(transparent)]
    Model(#[from] prospect_model::ModelError),
    /// Training failed.
    #[error(transparent)]
    Train(#[from] prospect_train::TrainError),
    /// Members of a group cannot go on together.
    #[error(transparent)]
    Collective(#[from] prospect_dist::CollectiveError),
    /// The sweep's directory cannot be used.
    #[error(transparent)]
    Runs(#[from] prospect_runs::RunsError),
    /// Slurm does not do what is asked.
    #[error("{0}")]
    Slurm(String),
    /// Finished runs cannot be analysed.
    #[error(transparent)]
    Analysis(#[from] prospect_analysis::AnalysisError),
    /// A setting cannot be used.
    #[error("{0}")]
    Setting(String),
    /// The experiment makes no sense.
    #[error("{file}: {message}")]
    Experiment {
        /// The experiment file.
        file: String,
        /// What is wrong, and what to do.
        message: String,
    },
}
