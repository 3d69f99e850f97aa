//! Directory of a sweep.

use std::path::{Path, PathBuf};

use prospect_core::files::write_json;

use crate::{
    Claims, Comparison, Experiment, JobsRecord, JudgeNote, RunDir, RunsError, Summary,
    json::{read_json, read_json_if_exists},
};

/// Directory of a sweep: its plan, its runs and its summary.
#[derive(Debug, Clone)]
pub struct SweepDir {
    path: PathBuf,
}

impl SweepDir {
    /// Sweep directory at `path`, which need not exist.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Directory of the run `id`.
    pub fn run(&self, id: &str) -> RunDir {
        RunDir::at(self.path.join("runs").join(id))
    }

    /// Claims on the sweep's runs, stages and datasets.
    pub fn claims(&self) -> Claims {
        Claims::at(self.path.join("claims"))
    }

    /// Writes `experiment.json`.
    pub fn write_experiment(&self, experiment: &Experiment) -> Result<(), RunsError> {
        Ok(write_json(&self.path.join("experiment.json"), experiment)?)
    }

    /// Reads `experiment.json`.
    pub fn experiment(&self) -> Result<Experiment, RunsError> {
        read_json(&self.path.join("experiment.json"))
    }

    /// Writes `summary.json`.
    pub fn write_summary(&self, summary: &Summary) -> Result<(), RunsError> {
        Ok(write_json(&self.path.join("summary.json"), summary)?)
    }

    /// Reads `summary.json`; None if the sweep has no summary yet.
    pub fn summary(&self) -> Result<Option<Summary>, RunsError> {
        read_json_if_exists(&self.path.join("summary.json"))
    }

    /// Writes `compare.json`.
    pub fn write_comparison(&self, comparison: &Comparison) -> Result<(), RunsError> {
        Ok(write_json(&self.path.join("compare.json"), comparison)?)
    }

    /// Reads `compare.json`; None if the sweep is no comparison in stages.
    pub fn comparison(&self) -> Result<Option<Comparison>, RunsError> {
        read_json_if_exists(&self.path.join("compare.json"))
    }

    /// Writes `jobs.json`.
    pub fn write_jobs(&self, jobs: &JobsRecord) -> Result<(), RunsError> {
        Ok(write_json(&self.path.join("jobs.json"), jobs)?)
    }

    /// Reads `jobs.json`; None if no call chose the number of parallel runs.
    pub fn jobs(&self) -> Result<Option<JobsRecord>, RunsError> {
        read_json_if_exists(&self.path.join("jobs.json"))
    }

    /// Writes `judges.json`.
    pub fn write_judges(&self, judges: &[JudgeNote]) -> Result<(), RunsError> {
        Ok(write_json(&self.path.join("judges.json"), &judges)?)
    }

    /// Reads `judges.json`; empty if no judge has been asked.
    pub fn judges(&self) -> Result<Vec<JudgeNote>, RunsError> {
        Ok(read_json_if_exists(&self.path.join("judges.json"))?.unwrap_or_default())
    }
}
