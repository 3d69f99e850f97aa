//! `slurm.yaml`: resources to request from a cluster.

use std::{collections::BTreeMap, num::NonZeroUsize};

use prospect_core::{config::Document, shell};
use prospect_model::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::SweepError;

/// Slurm profile: resources of a worker, and how it is started.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlurmProfileFile {
    /// Number of workers: tasks of the job array, each on one node. Never more than there are runs
    /// left.
    pub workers: NonZeroUsize,
    /// Partition (`sinfo` lists them). Default: the cluster's.
    pub partition: Option<String>,
    /// Account to charge.
    pub account: Option<String>,
    /// Quality of service.
    pub qos: Option<String>,
    /// GPUs per worker. Default: none.
    pub gpus: Option<NonZeroUsize>,
    /// GPU type, as the cluster names it.
    pub gpu_type: Option<String>,
    /// CPU cores per worker.
    pub cpus: Option<NonZeroUsize>,
    /// Main memory per worker, for example `64GiB`.
    pub memory: Option<Bytes>,
    /// Time limit of a worker: `hours:minutes:seconds` or `days-hours:minutes:seconds`.
    pub time: Option<String>,
    /// Environment modules to load.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Shell lines to run before the worker, after modules are loaded.
    #[serde(default)]
    pub prologue: Vec<String>,
    /// Command that starts Prospect, for example a container:
    /// `apptainer exec --nv prospect.sif prospect`. Default: the program that submits.
    pub launch: Option<String>,
    /// Other options of `sbatch` by long name, for example `constraint: a100`; `null` for an option
    /// without a value.
    #[serde(default)]
    pub sbatch: BTreeMap<String, Value>,
}

/// Resources to request from a cluster.
#[derive(Debug, Clone)]
pub struct SlurmProfile {
    /// Maximum number of workers.
    pub(super) workers: NonZeroUsize,
    /// Options of `sbatch`, by long name.
    pub(super) options: Vec<(String, Option<String>)>,
    /// Shell lines before the worker.
    pub(super) setup: Vec<String>,
    /// Command that starts Prospect, if not this program.
    pub(super) launch: Option<String>,
    /// The document, for line numbers in messages.
    pub(super) document: Document,
}

/// Options that the script sets itself.
const RESERVED: [&str; 7] = ["array", "chdir", "job-name", "open-mode", "output", "requeue", "error"];

/// Options with a key of their own in the profile.
const KEYS: [(&str, &str); 9] = [
    ("partition", "partition"),
    ("account", "account"),
    ("qos", "qos"),
    ("gres", "gpus"),
    ("gpus", "gpus"),
    ("cpus-per-task", "cpus"),
    ("mem", "memory"),
    ("time", "time"),
    ("ntasks", "workers"),
];

impl SlurmProfile {
    /// Reads and checks a profile.
    pub fn read(document: Document) -> Result<Self, SweepError> {
        let file: SlurmProfileFile = document.read()?;
        let located = |message: String| SweepError::Setting(document.blame(&message));
        let options = file.sbatch_options().map_err(located)?;
        let setup = file.setup_lines().map_err(located)?;
        Ok(Self { workers: file.workers, options, setup, launch: file.launch, document })
    }
}

impl SlurmProfileFile {
    /// Returns the options of `sbatch` with their values, by long name.
    fn sbatch_options(&self) -> Result<Vec<(String, Option<String>)>, String> {
        if let Some(time) = self.time.as_ref().filter(|time| !is_time(time)) {
            return Err(format!(
                "`time` is `{time}`: write hours:minutes:seconds or days-hours:minutes:seconds, as in \
                 12:00:00 or 2-00:00:00"
            ));
        }
        if self.gpu_type.is_some() && self.gpus.is_none() {
            return Err("`gpu_type` without `gpus` requests no GPU: set `gpus` too".to_owned());
        }
        let gpus = self.gpus.map(|number| match &self.gpu_type {
            Some(kind) => format!("gpu:{kind}:{number}"),
            None => format!("gpu:{number}"),
        });
        // M means MiB to sbatch.
        let memory = self.memory.map(|Bytes(bytes)| format!("{}M", bytes.div_ceil(1 << 20)));
        let keys = [
            ("partition", self.partition.clone()),
            ("account", self.account.clone()),
            ("qos", self.qos.clone()),
            ("gres", gpus),
            ("cpus-per-task", self.cpus.map(|cpus| cpus.to_string())),
            ("mem", memory),
            ("time", self.time.clone()),
        ];
        let mut options: Vec<(String, Option<String>)> = Vec::new();
        for (name, value) in keys {
            options.extend(value.map(|value| (name.to_owned(), Some(value))));
        }
        for (name, value) in &self.sbatch {
            options.push((name.clone(), sbatch_value(name, value)?));
        }
        let values = options.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        for (name, value) in values {
            if value.is_empty() || value.contains(char::is_control) {
                let key = KEYS.iter().find(|(option, _)| option == name).map_or("sbatch", |(_, key)| key);
                return Err(format!("`{key}`: {value:?} is not a value for `--{name}`"));
            }
        }
        Ok(options)
    }

    /// Returns the shell lines before the worker.
    fn setup_lines(&self) -> Result<Vec<String>, String> {
        let mut lines: Vec<String> = Vec::new();
        for module in &self.modules {
            if module.split_whitespace().count() != 1 {
                return Err(format!("`modules`: {module:?} is not the name of a module"));
            }
            lines.push(format!("module load {}", shell::word(module)));
        }
        lines.extend(self.prologue.iter().cloned());
        Ok(lines)
    }
}

/// Returns the value of an option given under `sbatch`.
fn sbatch_value(name: &str, value: &Value) -> Result<Option<String>, String> {
    if let Some((_, key)) = KEYS.iter().find(|(option, _)| *option == name) {
        return Err(format!("`sbatch.{name}`: set `{key}` instead"));
    }
    if RESERVED.contains(&name) {
        return Err(format!("`sbatch.{name}` is set for each submission: leave it out"));
    }
    if name.is_empty()
        || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        || name.starts_with('-')
    {
        return Err(format!("`sbatch.{name}`: write the long name without leading dashes"));
    }
    match value {
        Value::String(text) => Ok(Some(text.clone())),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Null | Value::Bool(true) => Ok(None),
        _ => Err(format!("`sbatch.{name}`: give a text, a number, or null for an option without a value")),
    }
}

/// Returns true for `hours:minutes:seconds`, with or without `days-` in front.
///
/// Slurm reads `30` as minutes and `1:30` as minutes and seconds, which few expect, so these are
/// refused.
fn is_time(text: &str) -> bool {
    let number = |text: &str| text.parse::<u32>().ok().filter(|_| text.chars().all(|c| c.is_ascii_digit()));
    let (days, clock) = text.split_once('-').map_or((None, text), |(days, clock)| (Some(days), clock));
    let parts: Vec<Option<u32>> = clock.split(':').map(number).collect();
    let clock = matches!(parts[..], [Some(_), Some(minutes), Some(seconds)] if minutes < 60 && seconds < 60);
    clock && days.is_none_or(|days| number(days).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(text: &str) -> Result<SlurmProfile, String> {
        SlurmProfile::read(Document::from_text("slurm.yaml", text).unwrap())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_profile_becomes_options_and_lines() {
        let text = "workers: 4\npartition: gpu\ngpus: 2\ngpu_type: a100\ncpus: 8\nmemory: 1.5GiB\ntime: 1-02:00:00\n\
                    modules: [cuda/12.4]\nprologue: ['export A=1']\nsbatch: { constraint: 'a&b', exclusive: null, nice: 5 }\n";
        let SlurmProfile { workers, options, setup, .. } = profile(text).unwrap();
        assert_eq!(workers.get(), 4);
        let options: Vec<String> = options
            .iter()
            .map(|(name, value)| value.as_ref().map_or(name.clone(), |value| format!("{name}={value}")))
            .collect();
        assert_eq!(
            options,
            [
                "partition=gpu",
                "gres=gpu:a100:2",
                "cpus-per-task=8",
                "mem=1536M",
                "time=1-02:00:00",
                "constraint=a&b",
                "exclusive",
                "nice=5"
            ]
        );
        assert_eq!(setup, ["module load cuda/12.4", "export A=1"]);
    }

    #[test]
    fn errors_name_their_line() {
        for (text, expected) in [
            (
                "workers: 1\npartion: gpu\n",
                "slurm.yaml:2: `partion`: unknown field `partion`, expected one of `workers`, `partition`",
            ),
            ("partition: gpu\n", "slurm.yaml: missing field `workers`"),
            ("workers: 0\n", "slurm.yaml:1: `workers`: invalid value: integer `0`"),
            ("workers: 1\ntime: 90\n", "slurm.yaml:2: `time`: invalid type: integer `90`"),
            ("workers: 1\ntime: 1:30\n", "slurm.yaml:2: `time` is `1:30`: write hours:minutes:seconds"),
            ("workers: 1\nmemory: 64G\n", "slurm.yaml:2: `memory`: `64G` is not an amount of memory"),
            ("workers: 1\ngpu_type: a100\n", "slurm.yaml:2: `gpu_type` without `gpus`"),
            ("workers: 1\nmodules: [cuda; rm]\n", "slurm.yaml:2: `modules`: \"cuda; rm\" is not the name"),
            ("workers: 1\nsbatch: { mem: 3 }\n", "slurm.yaml:2: `sbatch.mem`: set `memory` instead"),
            ("workers: 1\nsbatch: { array: 3 }\n", "slurm.yaml:2: `sbatch.array` is set for each submission"),
            ("workers: 1\nsbatch: { --nice: 3 }\n", "slurm.yaml:2: `sbatch.--nice`: write the long name"),
            ("workers: 1\nsbatch: { nice: [3] }\n", "slurm.yaml:2: `sbatch.nice`: give a text"),
            ("workers: 1\npartition: \"a\\nb\"\n", "slurm.yaml:2: `partition`: \"a\\nb\" is not a value for"),
        ] {
            let error = profile(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        assert!(profile("workers: 1\npartion: gpu\n").unwrap_err().ends_with("did you mean `partition`?"));
    }

    #[test]
    fn the_profile_in_the_documentation_is_valid() {
        let page = include_str!("../../../../docs/slurm.md");
        let text = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
        assert!(!profile(text).unwrap().options.is_empty());
    }
}
