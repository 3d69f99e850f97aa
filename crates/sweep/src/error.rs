//! Errors of planning and running a sweep.

use std::path::PathBuf;

use prospect_core::checksums::ChecksumError;

/// Error of planning or running a sweep.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// I/O error.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Invalid configuration file.
    #[error(transparent)]
    Config(#[from] prospect_core::config::ConfigError),
    /// A dataset cannot be prepared or read.
    #[error(transparent)]
    Data(#[from] prospect_data::DataError),
    /// A model cannot be loaded or saved.
    #[error(transparent)]
    Model(#[from] prospect_model::ModelError),
    /// The weights of a finished SFT stage are damaged.
    #[error("{damage}; remove {} and run the same command again, which trains the SFT stage again", stage.display())]
    DamagedStage {
        /// File and hashes.
        damage: ChecksumError,
        /// Directory of the stage.
        stage: PathBuf,
    },
    /// The SFT stage that a run starts from diverged.
    #[error("the SFT stage {stage} that the run starts from failed: {reason}")]
    Stage {
        /// Id of the stage.
        stage: String,
        /// Its error.
        reason: String,
    },
    /// The process was asked to end.
    #[error(transparent)]
    Interrupted(#[from] prospect_core::interrupt::Interrupt),
    /// Training failed.
    #[error(transparent)]
    Train(#[from] prospect_train::TrainError),
    /// Communication between ranks failed.
    #[error(transparent)]
    Collective(#[from] prospect_dist::CollectiveError),
    /// The sweep directory cannot be read or written.
    #[error(transparent)]
    Runs(#[from] prospect_runs::RunsError),
    /// A Slurm command failed or was refused.
    #[error("{0}")]
    Slurm(String),
    /// Finished runs cannot be analysed.
    #[error(transparent)]
    Analysis(#[from] prospect_analysis::AnalysisError),
    /// An input is not on this machine, and nothing may be downloaded.
    #[error("{0}")]
    NotFetched(#[from] prospect_core::not_fetched::NotFetched),
    /// Invalid setting.
    #[error("{0}")]
    Setting(String),
    /// Invalid experiment.
    #[error("{file}: {message}")]
    Experiment {
        /// The experiment file.
        file: String,
        /// The problem and what to do about it.
        message: String,
    },
    /// A run, a stage or the output folder cannot be used; found before any weights were loaded.
    #[error("{0}")]
    Preflight(String),
}
