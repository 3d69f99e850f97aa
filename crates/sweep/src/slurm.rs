//! Slurm job arrays: workers that share a sweep, or tasks that prepare a dataset.
//!
//! A [`SlurmProfile`] (`slurm.yaml`) names the resources to request. A [`Submission`] writes the
//! batch script of an array of workers and hands it to `sbatch`, unless earlier workers are still
//! queued or running; [`SlurmStatus`] is their state. A worker is [`execute`](crate::execute) with
//! [`WaitPolicy::Leave`](crate::WaitPolicy::Leave). Slurm only starts it: all state is in the sweep
//! directory, so nothing is lost with a job. A [`Preparation`] is an array that reads parts of an
//! input, followed by a job that merges them.

use std::path::{Path, PathBuf};

use prospect_core::files::write_json;
use prospect_runs::SweepDir;
use serde::{Deserialize, Serialize};

use crate::SweepError;

mod preparation;
mod profile;
mod queue;
mod script;
mod submission;

pub use preparation::{Preparation, PreparationOutcome};
pub use profile::{SlurmProfile, SlurmProfileFile};
pub use queue::{SlurmStatus, SlurmTask};
pub use submission::{Submission, SubmissionOutcome};

/// Last job submitted for a sweep or a dataset, kept in [`JOB_FILE`] next to its script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SubmittedJob {
    id: String,
    workers: usize,
}

const JOB_FILE: &str = "job.json";

/// Returns the folder of a sweep's scripts and logs.
fn slurm_folder(sweep: &SweepDir) -> PathBuf {
    sweep.path().join("slurm")
}

impl SubmittedJob {
    fn read(folder: &Path) -> Result<Option<Self>, SweepError> {
        let file = folder.join(JOB_FILE);
        if !file.exists() {
            return Ok(None);
        }
        let job = serde_json::from_slice(&fs_err::read(&file)?);
        job.map(Some).map_err(|error| SweepError::Slurm(format!("{}: {error}", file.display())))
    }

    fn write(&self, folder: &Path) -> Result<(), SweepError> {
        Ok(write_json(&folder.join(JOB_FILE), self)?)
    }
}
