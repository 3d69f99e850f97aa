//! Plan of a sweep: `experiment.json`.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{CapabilityTest, Measure};

/// Key of a planned run's settings with its trial in a search for settings, counted from 1.
pub const TRIAL_KEY: &str = "trial";

/// Key of a planned run's settings with its rung in a search for settings, counted from 1.
pub const RUNG_KEY: &str = "rung";

/// A swept setting that the report plots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// Name of the setting in [`PlannedRun::settings`].
    pub key: String,
    /// Label in figures.
    pub label: String,
}

/// One planned run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedRun {
    /// Fingerprint of the resolved settings, and name of the run's directory.
    pub id: String,
    /// Value of every swept setting, such as `method: kto`. Numbers stay numbers.
    pub settings: BTreeMap<String, Value>,
    /// Random seed.
    pub seed: u64,
    /// Index into [`Experiment::data`].
    pub data: usize,
}

/// Returns the name of a series in figures and tables: strings without quotes, booleans as yes or
/// no.
///
/// ```
/// assert_eq!(prospect_runs::series_name(&"kto".into()), "kto");
/// assert_eq!(prospect_runs::series_name(&true.into()), "yes");
/// ```
pub fn series_name(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        other => other.to_string(),
    }
}

/// Formats settings as `key = value, …`.
pub fn describe_settings(settings: &BTreeMap<String, Value>) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    settings.iter().map(|(key, value)| format!("{key} = {}", text(value))).collect::<Vec<_>>().join(", ")
}

/// A dataset that runs of the sweep train on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataUse {
    /// Directory of the prepared dataset.
    pub path: PathBuf,
    /// Its `manifest.json`.
    pub manifest: Value,
}

/// True utility of a dataset from a synthetic world, as its manifest describes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
pub struct TrueUtility {
    /// Accuracy that the true utility reaches on the held-out pairs.
    pub oracle_accuracy: Option<f64>,
    /// AUC that the true utility reaches on the held-out thumbs.
    pub oracle_auc: Option<f64>,
    /// Smallest and largest utility of a completion.
    pub utility_range: Option<(f64, f64)>,
}

/// The part of a manifest that names the training domains.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ManifestDomains<'a> {
    #[serde(borrow)]
    config: RecipeDomains<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RecipeDomains<'a> {
    #[serde(borrow)]
    select: Option<SelectedDomains<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SelectedDomains<'a> {
    #[serde(borrow)]
    train_domains: Option<Vec<&'a str>>,
}

impl DataUse {
    /// Domains that the recipe selects for training, according to the manifest; empty if it selects
    /// none.
    pub fn train_domains(&self) -> Vec<&str> {
        let ManifestDomains { config } = ManifestDomains::deserialize(&self.manifest).unwrap_or_default();
        config.select.and_then(|select| select.train_domains).unwrap_or_default()
    }

    /// True utility according to the manifest; its fields are None if the data has none.
    pub fn truth(&self) -> TrueUtility {
        TrueUtility::deserialize(&self.manifest).unwrap_or_default()
    }
}

/// A model that is no base model, although the experiment is about base models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainedStart {
    /// The weights, as the recipe writes them.
    pub weights: String,
    /// Training that the weights have been through, such as `aligned`; None if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Source of `stage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl std::fmt::Display for TrainedStart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { weights, stage, source } = self;
        match (stage, source) {
            (None, _) => write!(f, "{weights} (of unknown stage)"),
            (Some(stage), None) => write!(f, "{weights} ({stage})"),
            (Some(stage), Some(source)) => write!(f, "{weights} ({stage}: {source})"),
        }
    }
}

/// A training stage whose result all runs share, such as SFT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Kind of stage, such as `sft`.
    pub name: String,
    /// Name of its run directory under `runs/`.
    pub id: String,
}

/// Published results to compare the sweep with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PublishedResults {
    /// Source of the numbers.
    pub label: String,
    /// Quantity with its unit, if it is not the share of held-out pairs that this sweep measures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measure: Option<String>,
    /// Values of the x axis with the number at each, by series.
    pub series: BTreeMap<String, Vec<(Value, f64)>>,
}

/// Contrast that an experiment is about. It needs no adjustment for the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrimaryContrast {
    /// Series that is compared with the baseline.
    pub series: String,
    /// Value of the x axis.
    pub x: Value,
    /// Quantity that is compared.
    pub measure: Measure,
}

/// Part of training that is drawn again for every seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resample {
    /// The training prompts that `select.train_prompts` keeps.
    Prompts,
    /// The SFT stage.
    Sft,
}

/// `experiment.json`: question and plan of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Experiment {
    /// Name of the experiment file without its extension.
    pub name: String,
    /// Question of the experiment, in a sentence.
    pub question: String,
    /// Shell commands that reproduce the sweep.
    pub commands: Vec<String>,
    /// Swept setting on the x axis.
    pub x: Axis,
    /// Swept setting that distinguishes the curves.
    pub series: Axis,
    /// Series that the others are compared with.
    pub baseline: String,
    /// Contrast that needs no adjustment for multiple comparisons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<PrimaryContrast>,
    /// Significance level of adjusted p-values, if it is not 0.05.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<f64>,
    /// Parts of training that every seed draws again, in addition to the adapter's initialisation,
    /// the data order, and the draws of imbalance and noise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resample: Vec<Resample>,
    /// Published results to compare with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<PublishedResults>,
    /// Further published results, in other quantities than the sweep's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_references: Vec<PublishedResults>,
    /// Models of an experiment about base models that are no base models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trained_starts: Vec<TrainedStart>,
    /// Capability tests of every run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<CapabilityTest>,
    /// Names of the series that are evaluated without training.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untrained: Vec<String>,
    /// Training stages whose result all runs share.
    pub stages: Vec<Stage>,
    /// Datasets, indexed by [`PlannedRun::data`].
    pub data: Vec<DataUse>,
    /// Compared runs in the order of the plan. In a search for settings, the runs of the winning
    /// trials under fresh seeds, once the search is over.
    pub runs: Vec<PlannedRun>,
    /// Search for settings, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<Search>,
    /// Resolved settings that runs share, a record for people: models, evaluation, SFT stages, and
    /// the training settings of the first run.
    pub base: Value,
}

/// A search for the best settings of each series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Search {
    /// Trials of each series at each x.
    pub trials: usize,
    /// Runs of each rung reached so far. Later rungs have longer runs and fewer trials.
    pub rungs: Vec<Vec<PlannedRun>>,
}

impl Experiment {
    /// Every run, including those of the trials of a search.
    pub fn all_runs(&self) -> Vec<&PlannedRun> {
        match &self.search {
            None => self.runs.iter().collect(),
            Some(search) => {
                let rungs: Vec<&PlannedRun> = search.rungs.iter().flatten().collect();
                let is_new = |run: &&PlannedRun| rungs.iter().all(|other| other.id != run.id);
                let winners: Vec<&PlannedRun> = self.runs.iter().filter(is_new).collect();
                [rungs, winners].concat()
            }
        }
    }

    /// True for a run of a series that is evaluated without training.
    pub fn is_untrained(&self, run: &PlannedRun) -> bool {
        run.settings.get(&self.series.key).is_some_and(|name| self.untrained.contains(&series_name(name)))
    }

    /// Swept settings that estimates average over. Empty for a search, whose settings differ by
    /// series.
    pub fn averaged_settings(&self) -> Vec<&str> {
        let runs = if self.search.is_some() { &[] } else { self.runs.as_slice() };
        averaged_settings(runs.iter().map(|run| &run.settings), [&self.x, &self.series])
    }
}

/// Returns the settings with several values among the runs that are neither the x axis nor the
/// series.
pub fn averaged_settings<'a>(
    runs: impl Iterator<Item = &'a BTreeMap<String, Value>>,
    axes: [&Axis; 2],
) -> Vec<&'a str> {
    let mut values: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for (key, value) in runs.flatten().filter(|(key, _)| axes.iter().all(|axis| axis.key != **key)) {
        let known = values.entry(key).or_default();
        if !known.contains(&value) {
            known.push(value);
        }
    }
    values.into_iter().filter(|(_, values)| values.len() > 1).map(|(key, _)| key).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_with_one_value_are_not_averaged() {
        let axis = |key: &str| Axis { key: key.to_owned(), label: String::new() };
        let runs =
            [("dpo", 1, "small"), ("kto", 2, "small"), ("kto", 1, "large")].map(|(method, x, model)| {
                [("method", json!(method)), ("x", json!(x)), ("model", json!(model)), ("data", json!("hh"))]
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect()
            });
        assert_eq!(averaged_settings(runs.iter(), [&axis("x"), &axis("method")]), ["model"]);
        assert_eq!(averaged_settings(runs[..2].iter(), [&axis("x"), &axis("method")]), [""; 0]);
    }

    #[test]
    fn training_domains_are_those_of_the_recipe() {
        let domains = |manifest: Value| {
            let data = DataUse { path: PathBuf::new(), manifest };
            data.train_domains().into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let recipe = json!({"config": {"seed": 1, "select": {"train_domains": ["law", "art"], "rows": 3}}});
        assert_eq!(domains(recipe), ["law", "art"]);
        assert!(domains(json!({"config": {"select": {"train_domains": null}}})).is_empty());
        assert!(domains(json!({"config": {"select": null}})).is_empty());
        assert!(domains(json!({})).is_empty());
    }
}
