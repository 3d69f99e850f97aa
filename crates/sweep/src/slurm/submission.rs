//! Submission of an array of workers for a sweep.

use std::num::NonZeroUsize;

use prospect_runs::SweepDir;

use super::{SlurmProfile, SlurmStatus, SubmittedJob, queue, script::BatchScript, slurm_folder};
use crate::SweepError;

/// Array of workers for a sweep.
#[derive(Debug, Clone, Copy)]
pub struct Submission<'a> {
    /// Name of the job.
    pub name: &'a str,
    /// The sweep that the workers share.
    pub sweep: &'a SweepDir,
    /// Resources to request.
    pub profile: &'a SlurmProfile,
    /// Arguments of a worker, quoted for a shell.
    pub arguments: &'a str,
    /// Upper limit of workers, beyond which they would have nothing to do.
    pub max_workers: NonZeroUsize,
}

/// Outcome of a submission.
#[derive(Debug)]
pub enum SubmissionOutcome {
    /// The array was submitted.
    Submitted {
        /// Job id of the array.
        job: String,
        /// Tasks of the array.
        workers: usize,
    },
    /// Workers of an earlier call are queued or running.
    AlreadyActive(SlurmStatus),
}

impl Submission<'_> {
    fn workers(&self) -> usize {
        self.profile.workers.min(self.max_workers).get()
    }

    fn batch_script(&self) -> BatchScript<'_> {
        BatchScript {
            profile: self.profile,
            name: self.name,
            comment: "Workers of a sweep, written by `prospect sweep --executor slurm`; the next call overwrites it.",
            array: Some(0..=self.workers() - 1),
            folder: slurm_folder(self.sweep),
            extra_options: Vec::new(),
            arguments: self.arguments.to_owned(),
        }
    }

    /// Returns the batch script.
    pub fn script(&self) -> Result<String, SweepError> {
        self.batch_script().text()
    }

    /// Submits the workers, unless earlier ones are queued or running.
    pub fn submit(&self) -> Result<SubmissionOutcome, SweepError> {
        let Some(_claim) = self.sweep.claims().take("submit")? else {
            return Err(SweepError::Slurm(
                "another process is submitting workers for this sweep: wait for it".to_owned(),
            ));
        };
        let folder = slurm_folder(self.sweep);
        if let Some(job) = SubmittedJob::read(&folder)?
            && queue::is_active(&job)?
        {
            return Ok(SubmissionOutcome::AlreadyActive(SlurmStatus::query(&job, &folder)));
        }
        let id = self.batch_script().submit("submit.sh")?;
        let job = SubmittedJob { id, workers: self.workers() };
        job.write(&folder)?;
        Ok(SubmissionOutcome::Submitted { job: job.id, workers: job.workers })
    }
}
