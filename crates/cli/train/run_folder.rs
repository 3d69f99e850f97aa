//! The runs of one output directory as one sweep.
//!
//! Each call of `prospect train` leaves a file below `trained/`, named after its run. The sweep's
//! `experiment.json` is rebuilt from all of them, so that runs of different settings are compared.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use prospect_core::{files::write_json, sample::unique};
use prospect_runs::{Axis, DataUse, Experiment, PlannedRun, SweepDir};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{DATA, OBJECTIVE, RUN};

/// Folder of the records, below the output directory.
const FOLDER: &str = "trained";

/// Record of one call.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Trained {
    question: String,
    commands: Vec<String>,
    run: PlannedRun,
    data: DataUse,
    /// Settings shared by the runs of the call, for the report.
    base: Value,
    /// Settings that tell runs apart, in order.
    distinguishing: Vec<(String, String)>,
}

/// Names of the runs in a directory.
pub(super) struct RunNames {
    /// Names of the runs that were added.
    pub(super) new: BTreeSet<String>,
    /// Number of all runs.
    pub(super) all: usize,
}

/// Records the runs of the sweep's `experiment.json`, and replaces it with one of all recorded
/// runs.
pub(super) fn add(sweep: &SweepDir, distinguishing: &[(String, String)]) -> anyhow::Result<RunNames> {
    let folder = sweep.path().join(FOLDER);
    fs_err::create_dir_all(&folder)?;
    let experiment = sweep.experiment()?;
    for run in &experiment.runs {
        let Some(data) = experiment.data.get(run.data) else { continue };
        let trained = Trained {
            question: experiment.question.clone(),
            commands: experiment.commands.clone(),
            run: run.clone(),
            data: data.clone(),
            base: experiment.base.clone(),
            distinguishing: distinguishing.to_vec(),
        };
        write_json(&folder.join(format!("{}.json", run.id)), &trained)?;
    }
    let all = read_all(&folder)?;
    let merged = merge(&experiment, &all);
    sweep.write_experiment(&merged)?;
    let is_new = |run: &&PlannedRun| experiment.runs.iter().any(|new| new.id == run.id);
    let name =
        |run: &PlannedRun| run.settings.get(RUN).and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(RunNames { new: merged.runs.iter().filter(is_new).map(name).collect(), all: merged.runs.len() })
}

/// Reads the records in the order of their run ids.
fn read_all(folder: &Path) -> anyhow::Result<Vec<Trained>> {
    let mut files: Vec<_> =
        fs_err::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    files.iter().map(|file| Ok(serde_json::from_slice(&fs_err::read(file)?)?)).collect()
}

/// Returns the experiment of all recorded runs. Its series are named by the settings that differ.
fn merge(last: &Experiment, all: &[Trained]) -> Experiment {
    let mut data: Vec<DataUse> = Vec::new();
    let mut runs = Vec::new();
    let names = names(all);
    for (trained, name) in all.iter().zip(&names) {
        let known = data.iter().position(|known| known.path == trained.data.path);
        let index = known.unwrap_or_else(|| {
            data.push(trained.data.clone());
            data.len() - 1
        });
        let on = value(trained, DATA).unwrap_or_default();
        let settings = BTreeMap::from([
            (RUN.to_owned(), Value::from(name.as_str())),
            (DATA.to_owned(), Value::from(on)),
        ]);
        runs.push(PlannedRun { settings, data: index, ..trained.run.clone() });
    }
    let questions = unique(all.iter().map(|trained| &trained.question));
    // DPO is the baseline wherever it was trained.
    let is_dpo = |(trained, _): &(&Trained, &String)| value(trained, OBJECTIVE).as_deref() == Some("dpo");
    let baseline = all.iter().zip(&names).find(is_dpo).map(|(_, name)| name).or(names.first());
    let axis = |key: &str| Axis { key: key.to_owned(), label: key.to_owned() };
    Experiment {
        question: match questions.as_slice() {
            [question] => (*question).clone(),
            _ => "How do the runs compare?".to_owned(),
        },
        commands: unique(all.iter().flat_map(|trained| &trained.commands)).into_iter().cloned().collect(),
        x: axis(DATA),
        series: axis(RUN),
        baseline: baseline.cloned().unwrap_or_default(),
        data,
        runs,
        ..last.clone()
    }
}

fn value(trained: &Trained, key: &str) -> Option<String> {
    let mut settings = trained.distinguishing.iter();
    settings.find(|(other, _)| other == key).map(|(_, value)| value.clone())
}

/// Returns a name for each run: its objective, and the settings in which runs differ. The data is
/// the x axis.
fn names(all: &[Trained]) -> Vec<String> {
    let mut keys: Vec<&str> = Vec::new();
    for (key, _) in all.iter().flat_map(|trained| &trained.distinguishing) {
        let first = all.first().and_then(|trained| value(trained, key));
        let differs = all.iter().any(|trained| value(trained, key) != first);
        if ![OBJECTIVE, DATA].contains(&key.as_str()) && differs && !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    let name = |trained: &Trained| {
        let objective = value(trained, OBJECTIVE).unwrap_or_default();
        let others = keys.iter().filter_map(|key| Some(format!("{key}={}", value(trained, key)?)));
        std::iter::once(objective).chain(others).collect::<Vec<_>>().join(", ")
    };
    all.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trained(id: &str, settings: &[(&str, &str)]) -> Trained {
        Trained {
            question: format!("{id}?"),
            commands: vec![id.to_owned()],
            run: PlannedRun { id: id.to_owned(), settings: BTreeMap::new(), seed: 0, data: 0 },
            data: DataUse { path: "data/x".into(), manifest: Value::Null },
            base: Value::Null,
            distinguishing: settings.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        }
    }

    #[test]
    fn runs_are_named_by_the_settings_that_differ() {
        let one = trained("a", &[("objective", "kto"), ("model", "m"), ("learning_rate", "0.1")]);
        assert_eq!(names(std::slice::from_ref(&one)), ["kto"]);
        let dpo = trained("b", &[("objective", "dpo"), ("model", "m"), ("learning_rate", "0.1")]);
        assert_eq!(names(&[one.clone(), dpo.clone()]), ["kto", "dpo"]);
        let other = trained("c", &[("objective", "kto"), ("model", "m"), ("train.beta", "0.5")]);
        assert_eq!(
            names(&[one, dpo, other]),
            ["kto, learning_rate=0.1", "dpo, learning_rate=0.1", "kto, train.beta=0.5"]
        );
    }

    #[test]
    fn runs_of_all_calls_are_compared_with_dpo() {
        let all = [trained("a", &[("objective", "kto")]), trained("b", &[("objective", "dpo")])];
        let axis = Axis { key: RUN.to_owned(), label: RUN.to_owned() };
        let last = Experiment {
            name: "train".to_owned(),
            question: "b?".to_owned(),
            commands: Vec::new(),
            x: axis.clone(),
            series: axis,
            baseline: String::new(),
            primary: None,
            level: None,
            resample: Vec::new(),
            reference: None,
            more_references: Vec::new(),
            trained_starts: Vec::new(),
            capabilities: Vec::new(),
            untrained: Vec::new(),
            stages: Vec::new(),
            data: Vec::new(),
            runs: Vec::new(),
            search: None,
            base: Value::Null,
        };
        let merged = merge(&last, &all);
        assert_eq!((merged.baseline.as_str(), merged.runs.len(), merged.data.len()), ("dpo", 2, 1));
        assert_eq!(merged.commands, ["a", "b"]);
        assert_eq!(merged.question, "How do the runs compare?");
    }
}
