//! The directory of a sweep: its question, its plan and, at the end, its answer.

use std::path::{Path, PathBuf};

use prospect_core::files::write_json;
use serde::{Deserialize, Serialize};

use crate::{
    Claims, JudgeNote, Opponent, RunDir, RunsError,
    run::{read_json, read_json_if_there},
};

/// A swept setting that the report plots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// Name of the setting among a planned run's settings.
    pub key: String,
    /// How the figure calls it.
    pub label: String,
}

/// One planned run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedRun {
    /// Fingerprint of the resolved settings; the name of the run's directory.
    pub id: String,
    /// The value of every swept setting (numbers stay numbers), such as `method: kto`.
    pub settings: std::collections::BTreeMap<String, serde_json::Value>,
    /// The run's seed.
    pub seed: u64,
    /// Index into [`Experiment::data`].
    pub data: usize,
}

/// A series' name on figures and in tables.
pub fn series_name(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Bool(true) => "yes".to_owned(),
        serde_json::Value::Bool(false) => "no".to_owned(),
        other => other.to_string(),
    }
}

/// A dataset that runs of the sweep train on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataUse {
    /// Where the prepared dataset is.
    pub path: PathBuf,
    /// Its `manifest.json`.
    pub manifest: serde_json::Value,
}

/// A stage whose result all runs share, such as SFT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// What the stage is, such as `sft`.
    pub name: String,
    /// Its run directory's name under `runs/`.
    pub id: String,
}

/// Published numbers to see the sweep's own beside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// Where they are from.
    pub label: String,
    /// What they measure, with its unit, where that is not the share of held-out pairs that this sweep measures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measure: Option<String>,
    /// A value of the x axis and the number there, by series.
    pub series: std::collections::BTreeMap<String, Vec<(serde_json::Value, f64)>>,
}

/// `experiment.json`: what the sweep asks, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Experiment {
    /// The experiment file's name without its ending.
    pub name: String,
    /// The question, in a sentence.
    pub question: String,
    /// The commands that reproduce the sweep, as typed in a shell.
    pub commands: Vec<String>,
    /// The swept setting on the x axis.
    pub x: Axis,
    /// The swept setting that tells the curves apart.
    pub series: Axis,
    /// The series that the others are compared with.
    pub baseline: String,
    /// Published numbers to see the sweep's own beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// Stages whose result all runs share.
    pub stages: Vec<Stage>,
    /// Datasets, by index of [`PlannedRun::data`].
    pub data: Vec<DataUse>,
    /// The runs that are compared, in the order of the plan; where settings are searched for, those of the trials that have
    /// won, once the search is over.
    pub runs: Vec<PlannedRun>,
    /// The search for settings, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<Search>,
    /// Settings that no run changes (model, training), resolved.
    pub base: serde_json::Value,
}

/// A search for the settings at which each series is at its best.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Search {
    /// Trials of each series at each x.
    pub trials: usize,
    /// The runs of each rung that the search has come to: longer from one to the next, and of fewer trials.
    pub rungs: Vec<Vec<PlannedRun>>,
}

impl Experiment {
    /// Every run, compared or not.
    pub fn all_runs(&self) -> Vec<&PlannedRun> {
        match &self.search {
            None => self.runs.iter().collect(),
            Some(search) => search.rungs.iter().flatten().collect(),
        }
    }
}

/// One trial of a search, as far as it has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialResult {
    /// The series.
    pub series: String,
    /// The swept settings and what was drawn.
    pub settings: std::collections::BTreeMap<String, serde_json::Value>,
    /// The last rung that it has a result for, from 1.
    pub rung: usize,
    /// Mean accuracy there on the held-out prompts that trials are ranked on.
    pub accuracy: f64,
    /// Seeds.
    pub seeds: usize,
    /// Whether it has won.
    pub won: bool,
}

/// A value with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end of the 95 % interval.
    pub high: f64,
}

/// Held-out preference accuracy of one series at one x, over seeds and pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The series, such as `kto`.
    pub series: String,
    /// The value of the x axis.
    pub x: f64,
    /// Accuracy, as a share of pairs, with its interval over seeds and prompts.
    pub accuracy: Estimate,
    /// The accuracy of each seed alone.
    pub seeds: Vec<f64>,
    /// Mean true utility of what the policies say to held-out prompts, where the data knows it.
    pub utility: Option<Estimate>,
    /// Mean reward margin β·(log-ratio chosen − rejected), with its interval.
    pub margin: Estimate,
    /// Optimizer steps of a run, by the first seed.
    pub steps: u64,
    /// How sure the policies are of their preferences and how right, over the pairs of all seeds.
    pub calibration: Option<Calibration>,
}

/// Confidence of preferences against their accuracy, over held-out pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Expected calibration error: the mean difference of confidence and accuracy over bins, weighted by pairs.
    pub error: f64,
    /// The bins that hold pairs, by rising confidence.
    pub bins: Vec<CalibrationBin>,
}

/// Pairs of about the same confidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationBin {
    /// Least confidence, from ½.
    pub low: f64,
    /// Largest confidence, up to 1.
    pub high: f64,
    /// Number of pairs.
    pub pairs: usize,
    /// Mean confidence.
    pub confidence: f64,
    /// Share of pairs whose chosen completion has the larger reward.
    pub accuracy: f64,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// The share of held-out pairs whose chosen completion has the larger reward.
    Accuracy,
    /// The true utility of what policies say to held-out prompts, where the data knows it.
    Utility,
}

/// The difference of two series at one x, paired by seed and held-out pair (or prompt).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contrast {
    /// The series compared.
    pub series: String,
    /// The series it is compared with.
    pub baseline: String,
    /// The value of the x axis.
    pub x: f64,
    /// What is compared.
    pub measure: Measure,
    /// That of `series` minus that of `baseline`.
    pub difference: Estimate,
    /// The p-value of the difference alone.
    pub p: f64,
    /// The p-value after Holm's adjustment for all contrasts of the sweep.
    pub p_holm: f64,
    /// What can be said.
    pub verdict: Verdict,
    /// How many seeds it takes to tell [`Summary::effect`] in four of five cases; None where seeds alone would not do, or
    /// one seed does not say.
    pub seeds_needed: Option<usize>,
    /// Seeds that both have.
    pub seeds: usize,
    /// Held-out pairs, or prompts that were continued.
    pub pairs: usize,
}

/// What can be said of a contrast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The series is ahead of the baseline.
    Ahead,
    /// The series is behind the baseline.
    Behind,
    /// The data do not say.
    CannotTell,
}

/// A sign that a run has gone wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// The loss or the norm of the gradient jumps.
    Unstable,
    /// The reward margin stays flat.
    NoLearning,
    /// The policy says ever the same, or has left the reference far behind.
    ModeCollapse,
    /// KTO's reference point is 0 throughout.
    ReferencePointAtZero,
    /// The chosen completions become less likely while the margin grows.
    ChosenFalling,
    /// Completions grow long.
    LengthBlowUp,
}

/// What looks wrong in a run, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The run's id.
    pub run: String,
    /// What looks wrong.
    pub sign: Sign,
    /// The numbers that say so, in a sentence.
    pub evidence: String,
    /// The first optimizer step that it is about, and the last.
    pub steps: [u64; 2],
    /// What to look at.
    pub advice: String,
}

/// How often a judge prefers what a series says at one x to something else, over seeds and prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WinRate {
    /// The judge.
    pub judge: String,
    /// What the series' generations were compared with.
    pub opponent: Opponent,
    /// The series.
    pub series: String,
    /// The value of the x axis.
    pub x: f64,
    /// Wins and half of the ties, as a share of what was judged, with its interval over seeds and prompts.
    pub rate: Estimate,
    /// Wins as a share of wins and losses, with the exact binomial interval of independent comparisons; None without any.
    pub decided: Option<Estimate>,
    /// Comparisons won.
    pub wins: u64,
    /// Comparisons that the judge does not decide.
    pub ties: u64,
    /// Comparisons lost.
    pub losses: u64,
    /// Comparisons without a readable answer; they count nowhere else.
    pub unread: u64,
    /// The p-value of the rate against one half.
    pub p: f64,
    /// The p-value after Holm's adjustment for all rates of the judge.
    pub p_holm: f64,
    /// Whether the series is ahead of what it was compared with.
    pub verdict: Verdict,
}

/// `summary.json`: the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The answer in a sentence or two, with its interval.
    pub verdict: String,
    /// What `accuracy` intervals mean, in a sentence.
    pub method: String,
    /// Estimates for every series and x.
    pub points: Vec<Point>,
    /// Differences from the baseline series.
    pub contrasts: Vec<Contrast>,
    /// How often judges prefer what policies say, by judge and opponent.
    #[serde(default)]
    pub win_rates: Vec<WinRate>,
    /// The difference of accuracies that [`Contrast::seeds_needed`] is about.
    pub effect: f64,
    /// What looks wrong in runs, in the order of the plan.
    pub findings: Vec<Finding>,
    /// The trials of a search, by series, the best of each first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trials: Vec<TrialResult>,
    /// The accuracy that the true utility itself would reach, where the data knows it.
    pub oracle_accuracy: Option<f64>,
    /// The accuracy of the model before preference training by its own log-probs (not ratios), where measured.
    pub start_accuracy: Option<f64>,
}

/// The directory of a sweep.
#[derive(Debug, Clone)]
pub struct SweepDir {
    path: PathBuf,
}

impl SweepDir {
    /// The sweep directory at `path`, which need not exist yet.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where the directory is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of the run `id`.
    pub fn run(&self, id: &str) -> RunDir {
        RunDir::at(self.path.join("runs").join(id))
    }

    /// Who works on what of the sweep.
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

    /// Reads `summary.json`, if the sweep has come so far.
    pub fn summary(&self) -> Result<Option<Summary>, RunsError> {
        read_json_if_there(&self.path.join("summary.json"))
    }

    /// Writes `judges.json`.
    pub fn write_judges(&self, judges: &[JudgeNote]) -> Result<(), RunsError> {
        Ok(write_json(&self.path.join("judges.json"), &judges)?)
    }

    /// Reads `judges.json`; empty if no judge was asked.
    pub fn judges(&self) -> Result<Vec<JudgeNote>, RunsError> {
        Ok(read_json_if_there(&self.path.join("judges.json"))?.unwrap_or_default())
    }
}
