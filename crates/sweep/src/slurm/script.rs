//! Batch scripts and their submission.

use std::{io::Write, ops::RangeInclusive, path::PathBuf, process::Command};

use prospect_core::{files::write_whole, shell};

use super::SlurmProfile;
use crate::SweepError;

/// Batch script of a job or a job array.
pub(super) struct BatchScript<'a> {
    /// Resources to request.
    pub(super) profile: &'a SlurmProfile,
    /// Name of the job.
    pub(super) name: &'a str,
    /// Comment at the top, for people who read the script.
    pub(super) comment: &'static str,
    /// Task numbers of an array.
    pub(super) array: Option<RangeInclusive<usize>>,
    /// Folder of scripts and logs.
    pub(super) folder: PathBuf,
    /// Options in addition to those of the profile, by long name.
    pub(super) extra_options: Vec<(&'static str, Option<String>)>,
    /// Arguments of `prospect`, quoted for a shell.
    pub(super) arguments: String,
}

impl BatchScript<'_> {
    /// Returns the text of the script.
    pub(super) fn text(&self) -> Result<String, SweepError> {
        let SlurmProfile { options, setup, launch, .. } = self.profile;
        let logs = std::path::absolute(&self.folder)?;
        // Slurm expands `%` patterns in file names.
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
            vec!["#!/bin/bash".to_owned(), format!("# {}", self.comment), "#SBATCH --requeue".to_owned()];
        let option = |name: &str, value: &str| format!("#SBATCH --{name}={}", shell::word(value));
        lines.extend(own.iter().filter_map(|(name, value)| Some(option(name, value.as_ref()?))));
        let extra = self.extra_options.iter().map(|(name, value)| (*name, value));
        for (name, value) in extra.chain(options.iter().map(|(name, value)| (name.as_str(), value))) {
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

    /// Writes the script into its folder as `name`, submits it, and returns the job id.
    pub(super) fn submit(&self, name: &str) -> Result<String, SweepError> {
        let (script, text) = (self.folder.join(name), self.text()?);
        write_whole(&script, |file| file.write_all(text.as_bytes()))?;
        let output = Command::new("sbatch").arg("--parsable").arg(&script).output().map_err(|error| {
            SweepError::Slurm(format!(
                "cannot start `sbatch` ({error}): run this on a login node of the cluster, or leave --executor out"
            ))
        })?;
        let answer = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            return Err(self.refusal(String::from_utf8_lossy(&output.stderr).trim()));
        }
        // With several clusters, the cluster's name follows the job id.
        let id = answer.trim().split(';').next().unwrap_or_default().to_owned();
        if id.is_empty() || !id.chars().all(|c| c.is_ascii_digit()) {
            return Err(SweepError::Slurm(format!("`sbatch` answered {answer:?}, which is not a job id")));
        }
        Ok(id)
    }

    /// Returns the error of a refusal by `sbatch`, with the line of the profile that caused it if
    /// known.
    fn refusal(&self, message: &str) -> SweepError {
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
        let lower = message.to_lowercase();
        let document = &self.profile.document;
        let cause = words
            .iter()
            .find(|(word, key)| lower.contains(word) && document.keys().any(|existing| existing == *key));
        let message = message.replace('\n', "\n  ");
        SweepError::Slurm(match cause {
            Some((_, key)) => document
                .blame(&format!("`{key}`: Slurm refused the job; change it and submit again\n  {message}")),
            None => document
                .blame(&format!("Slurm refused the job; change what it names and submit again\n  {message}")),
        })
    }
}
