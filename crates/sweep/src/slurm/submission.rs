//! An array of workers for a sweep.

use std::num::NonZeroUsize;

use prospect_runs::SweepDir;

use super::{Job, Profile, SlurmStanding, ask, folder, script::Script};
use crate::SweepError;

/// An array of workers for a sweep.
#[derive(Debug, Clone, Copy)]
pub struct Submission<'a> {
    /// The job's name.
    pub name: &'a str,
    /// What the workers share.
    pub sweep: &'a SweepDir,
    /// What to ask the cluster for.
    pub profile: &'a Profile,
    /// The arguments of a worker, as a shell takes them.
    pub arguments: &'a str,
    /// There are no more workers than have something to do.
    pub most: NonZeroUsize,
}

/// What came of a submission.
#[derive(Debug)]
pub enum Submitted {
    /// An array of so many workers has this number now.
    Now {
        /// Slurm's number.
        job: String,
        /// Tasks of the array.
        workers: usize,
    },
    /// Workers of an earlier call are queued or running.
    Earlier(SlurmStanding),
}

impl Submission<'_> {
    fn workers(&self) -> usize {
        self.profile.workers.min(self.most).get()
    }

    fn array(&self) -> Script<'_> {
        Script {
            profile: self.profile,
            name: self.name,
            about: "Workers of a sweep, written by `prospect sweep --executor slurm`; the next call writes it anew.",
            array: Some(0..=self.workers() - 1),
            folder: folder(self.sweep),
            more: Vec::new(),
            arguments: self.arguments.to_owned(),
        }
    }

    /// The script that `sbatch` is given.
    pub fn script(&self) -> Result<String, SweepError> {
        self.array().text()
    }

    /// Submits the workers, unless earlier ones are queued or running.
    pub fn submit(&self) -> Result<Submitted, SweepError> {
        let Some(_claim) = self.sweep.claims().take("submit")? else {
            return Err(SweepError::Slurm(
                "another process submits workers of this sweep: wait for it".to_owned(),
            ));
        };
        let folder = folder(self.sweep);
        if let Some(job) = Job::read(&folder)?
            && ask::is_at_work(&job)?
        {
            return Ok(Submitted::Earlier(ask::standing_of(&job, &folder)));
        }
        let id = self.array().submit("submit.sh")?;
        let job = Job { id, workers: self.workers() };
        job.write(&folder)?;
        Ok(Submitted::Now { job: job.id, workers: job.workers })
    }
}
