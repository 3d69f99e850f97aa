//! Slurm: an array of workers that share a sweep, or the reading of a dataset.
//!
//! A [`Profile`] (`slurm.yaml`) says what to ask the cluster for. A [`Submission`] writes the script of the array and hands it
//! to `sbatch`, unless workers are queued or running already; [`SlurmStanding`] tells how they stand. A worker is
//! [`execute`](crate::execute) with [`Others::Leave`](crate::Others): Slurm starts it and has no other part in the sweep, so that
//! whatever Slurm loses, the sweep's directory has. A [`Preparation`] is an array that reads the parts of an input, and a job that puts
//! them together.

use std::path::{Path, PathBuf};

use prospect_core::files::write_json;
use prospect_runs::SweepDir;
use serde::{Deserialize, Serialize};

use crate::SweepError;

mod ask;
mod preparation;
mod profile;
mod script;
mod submission;

pub use ask::{SlurmStanding, Task};
pub use preparation::{Preparation, Prepares};
pub use profile::{Profile, ProfileFile};
pub use submission::{Submission, Submitted};

/// The last job that was submitted for a sweep or a dataset: [`JOB`] beside its script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Job {
    id: String,
    workers: usize,
}

const JOB: &str = "job.json";

/// Where scripts and logs of a sweep's workers are.
fn folder(sweep: &SweepDir) -> PathBuf {
    sweep.path().join("slurm")
}

impl Job {
    fn read(folder: &Path) -> Result<Option<Self>, SweepError> {
        let file = folder.join(JOB);
        if !file.exists() {
            return Ok(None);
        }
        let job = serde_json::from_slice(&fs_err::read(&file)?);
        job.map(Some).map_err(|error| slurm(&file, &error))
    }

    fn write(&self, folder: &Path) -> Result<(), SweepError> {
        Ok(write_json(&folder.join(JOB), self)?)
    }
}

fn slurm(file: &Path, error: &dyn std::fmt::Display) -> SweepError {
    SweepError::Slurm(format!("{}: {error}", file.display()))
}
