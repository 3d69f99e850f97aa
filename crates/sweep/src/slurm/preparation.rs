//! Preparation of a dataset by a job array, each task reading a part of the input.

use std::path::{Path, PathBuf};

use prospect_data::shards_folder;

use super::{SlurmProfile, SubmittedJob, queue, script::BatchScript};
use crate::SweepError;

/// Preparation of a dataset: an array with one task per worker of the profile, and a job that
/// merges their parts.
#[derive(Debug, Clone, Copy)]
pub struct Preparation<'a> {
    /// Name of the jobs.
    pub name: &'a str,
    /// Folder of the dataset.
    pub dataset: &'a Path,
    /// Resources to request.
    pub profile: &'a SlurmProfile,
    /// Arguments of `prospect`, quoted for a shell, without those that select a part of the input.
    pub arguments: &'a str,
}

/// Outcome of submitting a preparation.
#[derive(Debug)]
pub enum PreparationOutcome {
    /// The jobs were submitted.
    Submitted {
        /// Job id of the array.
        parts: String,
        /// Tasks of the array.
        tasks: usize,
        /// Job id of the merge.
        merge: String,
    },
    /// Jobs of an earlier call are queued or running; this is the id of the last one.
    AlreadyActive(String),
}

const COMMENT: &str = "Part of preparing a dataset, written by `prospect prepare --executor slurm`; the next call overwrites it.";

impl Preparation<'_> {
    fn tasks(&self) -> usize {
        self.profile.workers.get()
    }

    fn folder(&self) -> PathBuf {
        shards_folder(self.dataset).join("slurm")
    }

    /// Returns the script of the array.
    fn array_script(&self) -> BatchScript<'_> {
        let Self { profile, name, arguments, .. } = *self;
        let tasks = self.tasks();
        BatchScript {
            profile,
            name,
            comment: COMMENT,
            array: Some(1..=tasks),
            folder: self.folder(),
            extra_options: Vec::new(),
            arguments: format!("{arguments} --shard $SLURM_ARRAY_TASK_ID/{tasks}"),
        }
    }

    /// Returns the script of the merge, which starts once job `after` has succeeded.
    fn merge_script(&self, after: &str) -> BatchScript<'_> {
        // After a failed part there is nothing to merge: the job is cancelled instead of pending
        // forever.
        let extra_options = vec![
            ("dependency", Some(format!("afterok:{after}"))),
            ("kill-on-invalid-dep", Some("yes".to_owned())),
        ];
        let arguments = format!("{} --merge", self.arguments);
        BatchScript { array: None, extra_options, arguments, ..self.array_script() }
    }

    /// Returns the two scripts in the order in which they are submitted.
    pub fn scripts(&self) -> Result<[String; 2], SweepError> {
        Ok([self.array_script().text()?, self.merge_script("JOB").text()?])
    }

    /// Submits both scripts, unless jobs of an earlier call are queued or running.
    pub fn submit(&self) -> Result<PreparationOutcome, SweepError> {
        let folder = self.folder();
        if let Some(job) = SubmittedJob::read(&folder)?
            && queue::is_active(&job)?
        {
            return Ok(PreparationOutcome::AlreadyActive(job.id));
        }
        let parts = self.array_script().submit("parts.sh")?;
        let merge = self.merge_script(&parts).submit("merge.sh")?;
        SubmittedJob { id: merge.clone(), workers: 1 }.write(&folder)?;
        Ok(PreparationOutcome::Submitted { parts, tasks: self.tasks(), merge })
    }
}
