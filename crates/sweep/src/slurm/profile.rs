//! `slurm.yaml`: what to ask a cluster for.

use std::{collections::BTreeMap, num::NonZeroUsize};

use prospect_core::{config::Document, shell};
use prospect_model::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::SweepError;

/// A Slurm profile as typed: what a sweep's workers ask the cluster for, and how they are started.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileFile {
    /// Workers: tasks of the job array, each a job of one node. There are never more than runs are left.
    pub workers: NonZeroUsize,
    /// The partition (`sinfo` lists them); else the cluster's default.
    pub partition: Option<String>,
    /// The account that pays.
    pub account: Option<String>,
    /// The quality of service.
    pub qos: Option<String>,
    /// GPUs of a worker (none).
    pub gpus: Option<NonZeroUsize>,
    /// The type of the GPUs, by the cluster's name for it.
    pub gpu_type: Option<String>,
    /// CPU cores of a worker.
    pub cpus: Option<NonZeroUsize>,
    /// Main memory of a worker (`64GiB`).
    pub memory: Option<Bytes>,
    /// How long a worker may run: `hours:minutes:seconds` or `days-hours:minutes:seconds`.
    pub time: Option<String>,
    /// Environment modules to load.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Lines of shell to run after that, before the worker.
    #[serde(default)]
    pub prologue: Vec<String>,
    /// What starts Prospect, a container for example: `apptainer exec --nv prospect.sif prospect` (the program that submits).
    pub launch: Option<String>,
    /// Any other option of `sbatch` by its long name, as in `constraint: a100`; `null` for one without a value.
    #[serde(default)]
    pub sbatch: BTreeMap<String, Value>,
}

/// What to ask a cluster for.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Workers at most.
    pub(super) workers: NonZeroUsize,
    /// Options of `sbatch`, by long name.
    pub(super) options: Vec<(String, Option<String>)>,
    /// Lines of shell that come before the worker.
    pub(super) setup: Vec<String>,
    /// What starts Prospect, where it is not this program.
    pub(super) launch: Option<String>,
    /// For lines in messages.
    pub(super) document: Document,
}

/// Options that the script sets by itself.
const OWN: [&str; 7] = ["array", "chdir", "job-name", "open-mode", "output", "requeue", "error"];

/// Options that have keys of their own.
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

impl Profile {
    /// Reads and checks a profile.
    pub fn read(document: Document) -> Result<Self, SweepError> {
        match resolve(document.read()?) {
            Ok((workers, options, setup, launch)) => Ok(Self { workers, options, setup, launch, document }),
            Err(message) => Err(SweepError::Setting(document.blame(&message))),
        }
    }
}

type Resolved = (NonZeroUsize, Vec<(String, Option<String>)>, Vec<String>, Option<String>);

fn resolve(file: ProfileFile) -> Result<Resolved, String> {
    if let Some(time) = file.time.as_ref().filter(|time| !is_time(time)) {
        return Err(format!(
            "`time` is `{time}`: write hours:minutes:seconds or days-hours:minutes:seconds, as in 12:00:00 or 2-00:00:00"
        ));
    }
    if file.gpu_type.is_some() && file.gpus.is_none() {
        return Err("`gpu_type` without `gpus` asks for no GPU: say how many".to_owned());
    }
    let gpus = file.gpus.map(|number| match &file.gpu_type {
        Some(kind) => format!("gpu:{kind}:{number}"),
        None => format!("gpu:{number}"),
    });
    // sbatch takes mebibytes for M.
    let memory = file.memory.map(|Bytes(bytes)| format!("{}M", bytes.div_ceil(1 << 20)));
    let given = [
        ("partition", file.partition),
        ("account", file.account),
        ("qos", file.qos),
        ("gres", gpus),
        ("cpus-per-task", file.cpus.map(|cpus| cpus.to_string())),
        ("mem", memory),
        ("time", file.time),
    ];
    let mut options: Vec<(String, Option<String>)> = Vec::new();
    for (name, value) in given {
        options.extend(value.map(|value| (name.to_owned(), Some(value))));
    }
    for (name, value) in &file.sbatch {
        options.push((name.clone(), of_sbatch(name, value)?));
    }
    let mut setup: Vec<String> = Vec::new();
    for module in &file.modules {
        if module.split_whitespace().count() != 1 {
            return Err(format!("`modules`: {module:?} is no name of a module"));
        }
        setup.push(format!("module load {}", shell::word(module)));
    }
    setup.extend(file.prologue);
    let values = options.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    for (name, value) in values {
        if value.is_empty() || value.contains(char::is_control) {
            let key = KEYS.iter().find(|(option, _)| option == name).map_or("sbatch", |(_, key)| key);
            return Err(format!("`{key}`: {value:?} is no value for `--{name}`"));
        }
    }
    Ok((file.workers, options, setup, file.launch))
}

/// The value of an option of `sbatch`, which has no key of its own.
fn of_sbatch(name: &str, value: &Value) -> Result<Option<String>, String> {
    if let Some((_, key)) = KEYS.iter().find(|(option, _)| *option == name) {
        return Err(format!("`sbatch.{name}`: set `{key}` instead"));
    }
    if OWN.contains(&name) {
        return Err(format!("`sbatch.{name}` is set for each submission: leave it out"));
    }
    if name.is_empty()
        || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        || name.starts_with('-')
    {
        return Err(format!("`sbatch.{name}`: write an option's long name without dashes before it"));
    }
    match value {
        Value::String(text) => Ok(Some(text.clone())),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Null | Value::Bool(true) => Ok(None),
        _ => Err(format!("`sbatch.{name}`: give a text, a number, or null for an option without a value")),
    }
}

/// Whether a text is `hours:minutes:seconds`, behind `days-` or not. Slurm takes `30` for minutes and `1:30` for minutes and
/// seconds, which nobody expects.
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

    fn profile(text: &str) -> Result<Profile, String> {
        Profile::read(Document::from_text("slurm.yaml", text).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_profile_becomes_options_and_lines() {
        let text = "workers: 4\npartition: gpu\ngpus: 2\ngpu_type: a100\ncpus: 8\nmemory: 1.5GiB\ntime: 1-02:00:00\n\
                    modules: [cuda/12.4]\nprologue: ['export A=1']\nsbatch: { constraint: 'a&b', exclusive: null, nice: 5 }\n";
        let Profile { workers, options, setup, .. } = profile(text).unwrap();
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
    fn what_is_wrong_is_told_with_its_line() {
        for (text, said) in [
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
            ("workers: 1\nmodules: [cuda; rm]\n", "slurm.yaml:2: `modules`: \"cuda; rm\" is no name"),
            ("workers: 1\nsbatch: { mem: 3 }\n", "slurm.yaml:2: `sbatch.mem`: set `memory` instead"),
            ("workers: 1\nsbatch: { array: 3 }\n", "slurm.yaml:2: `sbatch.array` is set for each submission"),
            (
                "workers: 1\nsbatch: { --nice: 3 }\n",
                "slurm.yaml:2: `sbatch.--nice`: write an option's long name",
            ),
            ("workers: 1\nsbatch: { nice: [3] }\n", "slurm.yaml:2: `sbatch.nice`: give a text"),
            ("workers: 1\npartition: \"a\\nb\"\n", "slurm.yaml:2: `partition`: \"a\\nb\" is no value for"),
        ] {
            let error = profile(text).unwrap_err();
            assert!(error.starts_with(said), "{error}");
        }
        assert!(profile("workers: 1\npartion: gpu\n").unwrap_err().ends_with("did you mean `partition`?"));
    }

    #[test]
    fn the_profile_of_the_documentation_can_be_used() {
        let page = include_str!("../../../../docs/slurm.md");
        let text = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
        assert!(!profile(text).unwrap().options.is_empty());
    }
}
