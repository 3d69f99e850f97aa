//! Preparing a dataset by an array of tasks, each of which reads its part of the input.

use std::path::{Path, PathBuf};

use prospect_data::shards_folder;

use super::{Job, Profile, ask, script::Script};
use crate::SweepError;

/// A dataset that tasks of an array prepare, as many as the profile has workers, and one more job after them.
#[derive(Debug, Clone, Copy)]
pub struct Preparation<'a> {
    /// The jobs' name.
    pub name: &'a str,
    /// Where the dataset is to be.
    pub dataset: &'a Path,
    /// What to ask the cluster for.
    pub profile: &'a Profile,
    /// The arguments of `prospect`, as a shell takes them, without those that say which part to read.
    pub arguments: &'a str,
}

/// What came of it.
#[derive(Debug)]
pub enum Prepares {
    /// These jobs read the parts, and put them together.
    Now {
        /// Slurm's number of the array.
        parts: String,
        /// Tasks of the array.
        tasks: usize,
        /// Slurm's number of the job after it.
        merge: String,
    },
    /// Jobs of an earlier call are queued or running; this is the last of them.
    Earlier(String),
}

const ABOUT: &str = "Part of preparing a dataset, written by `prospect prepare --executor slurm`; the next call writes it anew.";

impl Preparation<'_> {
    fn tasks(&self) -> usize {
        self.profile.workers.get()
    }

    fn folder(&self) -> PathBuf {
        shards_folder(self.dataset).join("slurm")
    }

    /// The array.
    fn reads(&self) -> Script<'_> {
        let Self { profile, name, arguments, .. } = *self;
        let tasks = self.tasks();
        Script {
            profile,
            name,
            about: ABOUT,
            array: Some(1..=tasks),
            folder: self.folder(),
            more: Vec::new(),
            arguments: format!("{arguments} --shard $SLURM_ARRAY_TASK_ID/{tasks}"),
        }
    }

    /// The job that puts the parts together when those of job `after` are there.
    fn merges(&self, after: &str) -> Script<'_> {
        // A part that fails leaves nothing to put together: the job goes, and does not wait for ever.
        let more = vec![
            ("dependency", Some(format!("afterok:{after}"))),
            ("kill-on-invalid-dep", Some("yes".to_owned())),
        ];
        Script { array: None, more, arguments: format!("{} --merge", self.arguments), ..self.reads() }
    }

    /// The scripts that `sbatch` is given, one after the other.
    pub fn scripts(&self) -> Result<[String; 2], SweepError> {
        Ok([self.reads().text()?, self.merges("JOB").text()?])
    }

    /// Submits both, unless those of an earlier call are queued or running.
    pub fn submit(&self) -> Result<Prepares, SweepError> {
        let folder = self.folder();
        if let Some(job) = Job::read(&folder)?
            && ask::is_at_work(&job)?
        {
            return Ok(Prepares::Earlier(job.id));
        }
        let parts = self.reads().submit("parts.sh")?;
        let merge = self.merges(&parts).submit("merge.sh")?;
        Job { id: merge.clone(), workers: 1 }.write(&folder)?;
        Ok(Prepares::Now { parts, tasks: self.tasks(), merge })
    }
}
