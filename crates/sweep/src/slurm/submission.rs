//! The script of an array of workers, and handing it to Slurm.

use std::{io::Write, num::NonZeroUsize, path::Path, process::Command};

use prospect_core::{files::write_whole, shell};
use prospect_runs::SweepDir;

use super::{Job, Profile, SlurmStanding, ask, folder};
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

    /// The script that `sbatch` is given.
    pub fn script(&self) -> Result<String, SweepError> {
        let Profile { options, setup, launch, .. } = self.profile;
        let logs = std::path::absolute(folder(self.sweep))?.join("%A_%a.log");
        // Slurm replaces what stands behind one.
        let logs = logs.display().to_string().replace('%', "%%").replace("%%A_%%a.log", "%A_%a.log");
        let own = [
            ("job-name", self.name.to_owned()),
            ("array", format!("0-{}", self.workers() - 1)),
            ("nodes", "1".to_owned()),
            ("ntasks", "1".to_owned()),
            ("chdir", std::env::current_dir()?.display().to_string()),
            ("output", logs),
            ("open-mode", "append".to_owned()),
        ];
        let mut lines = vec![
            "#!/bin/bash".to_owned(),
            "# Workers of a sweep, written by `prospect sweep --executor slurm`; the next call writes it anew.".to_owned(),
            "#SBATCH --requeue".to_owned(),
        ];
        let option = |name: &str, value: &str| format!("#SBATCH --{name}={}", shell::word(value));
        lines.extend(own.iter().map(|(name, value)| option(name, value)));
        lines.extend(options.iter().map(|(name, value)| match value {
            Some(value) => option(name, value),
            None => format!("#SBATCH --{name}"),
        }));
        lines.push("set -e".to_owned());
        lines.extend(setup.iter().cloned());
        let program = match launch {
            Some(launch) => launch.clone(),
            None => shell::word(&std::env::current_exe()?.display().to_string()),
        };
        lines.push(format!("exec {program} {}", self.arguments));
        Ok(lines.join("\n") + "\n")
    }

    /// Submits the workers, unless earlier ones are queued or running.
    pub fn submit(&self) -> Result<Submitted, SweepError> {
        let Some(_claim) = self.sweep.claims().take("submit")? else {
            return Err(SweepError::Slurm(
                "another process submits workers of this sweep: wait for it".to_owned(),
            ));
        };
        if let Some(job) = Job::read(self.sweep)?
            && ask::is_at_work(&job)?
        {
            return Ok(Submitted::Earlier(ask::standing_of(&job, self.sweep)));
        }
        let script = folder(self.sweep).join("submit.sh");
        let text = self.script()?;
        write_whole(&script, |file| file.write_all(text.as_bytes()))?;
        let job = Job { id: self.sbatch(&script)?, workers: self.workers() };
        job.write(self.sweep)?;
        Ok(Submitted::Now { job: job.id, workers: job.workers })
    }

    /// The number of the job that `sbatch` makes of a script.
    fn sbatch(&self, script: &Path) -> Result<String, SweepError> {
        let output = Command::new("sbatch").arg("--parsable").arg(script).output().map_err(|error| {
            SweepError::Slurm(format!(
                "`sbatch` cannot be started ({error}): call this on a machine of the cluster that jobs are submitted from, \
                 or leave --executor out"
            ))
        })?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            return Err(self.refused(String::from_utf8_lossy(&output.stderr).trim()));
        }
        // With several clusters, the cluster's name comes behind the number.
        let id = said.trim().split(';').next().unwrap_or_default().to_owned();
        if id.is_empty() || !id.chars().all(|c| c.is_ascii_digit()) {
            return Err(SweepError::Slurm(format!("`sbatch` answers {said:?}, which is no number of a job")));
        }
        Ok(id)
    }

    /// What `sbatch` refuses, on the line of the profile that asks for it.
    fn refused(&self, said: &str) -> SweepError {
        let words = [
            ("partition", "partition"),
            ("account", "account"),
            ("qos", "qos"),
            ("time limit", "time"),
            ("generic resource", "gpus"),
            ("gres", "gpus"),
            ("memory", "memory"),
            ("cpu count", "cpus"),
            ("option", "sbatch"),
        ];
        let lower = said.to_lowercase();
        let document = &self.profile.document;
        let blamed = words
            .iter()
            .find(|(word, key)| lower.contains(word) && document.keys().any(|given| given == *key));
        let said = said.replace('\n', "\n  ");
        SweepError::Slurm(match blamed {
            Some((_, key)) => document
                .blame(&format!("`{key}`: Slurm refuses the job; change it, and call again\n  {said}")),
            None => document
                .blame(&format!("Slurm refuses the job; change what it names, and call again\n  {said}")),
        })
    }
}
