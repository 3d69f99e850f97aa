//! A batch script, and handing it to Slurm.

use std::{io::Write, ops::RangeInclusive, path::PathBuf, process::Command};

use prospect_core::{files::write_whole, shell};

use super::Profile;
use crate::SweepError;

/// What a job asks the cluster for, and runs.
pub(super) struct Script<'a> {
    /// What to ask for.
    pub(super) profile: &'a Profile,
    /// The job's name.
    pub(super) name: &'a str,
    /// What the script is, for who reads it.
    pub(super) about: &'static str,
    /// Numbers of the tasks, if it is an array.
    pub(super) array: Option<RangeInclusive<usize>>,
    /// Where scripts and logs are.
    pub(super) folder: PathBuf,
    /// Options beside those of the profile, by long name.
    pub(super) more: Vec<(&'static str, Option<String>)>,
    /// The arguments of Prospect, as a shell takes them.
    pub(super) arguments: String,
}

impl Script<'_> {
    /// What `sbatch` is given.
    pub(super) fn text(&self) -> Result<String, SweepError> {
        let Profile { options, setup, launch, .. } = self.profile;
        let logs = std::path::absolute(&self.folder)?;
        // Slurm replaces what stands behind a %.
        let logs = logs.display().to_string().replace('%', "%%");
        let log = if self.array.is_some() { "%A_%a.log" } else { "%j.log" };
        let array = self.array.as_ref().map(|tasks| format!("{}-{}", tasks.start(), tasks.end()));
        let own = [
            ("job-name", Some(self.name.to_owned())),
            ("array", array),
            ("nodes", Some("1".to_owned())),
            ("ntasks", Some("1".to_owned())),
            ("chdir", Some(std::env::current_dir()?.display().to_string())),
            ("output", Some(format!("{logs}/{log}"))),
            ("open-mode", Some("append".to_owned())),
        ];
        let mut lines =
            vec!["#!/bin/bash".to_owned(), format!("# {}", self.about), "#SBATCH --requeue".to_owned()];
        let option = |name: &str, value: &str| format!("#SBATCH --{name}={}", shell::word(value));
        lines.extend(own.iter().filter_map(|(name, value)| Some(option(name, value.as_ref()?))));
        let given = self.more.iter().map(|(name, value)| (*name, value));
        for (name, value) in given.chain(options.iter().map(|(name, value)| (name.as_str(), value))) {
            lines.push(match value {
                Some(value) => option(name, value),
                None => format!("#SBATCH --{name}"),
            });
        }
        lines.push("set -e".to_owned());
        lines.extend(setup.iter().cloned());
        let program = match launch {
            Some(launch) => launch.clone(),
            None => shell::word(&std::env::current_exe()?.display().to_string()),
        };
        lines.push(format!("exec {program} {}", self.arguments));
        Ok(lines.join("\n") + "\n")
    }

    /// Keeps the script under this name in its folder, and submits it: the number of the job.
    pub(super) fn submit(&self, name: &str) -> Result<String, SweepError> {
        let (script, text) = (self.folder.join(name), self.text()?);
        write_whole(&script, |file| file.write_all(text.as_bytes()))?;
        let output = Command::new("sbatch").arg("--parsable").arg(&script).output().map_err(|error| {
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
