//! The experiment file.

use std::{
    collections::BTreeMap,
    num::{NonZeroU64, NonZeroUsize},
};

use prospect_eval::{GenerationOptions, HeldOutLimits};
use prospect_runs::{GenerationMode, Measure};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use serde_json::Value;

use super::{ChoicesFile, ExactFile, Groups, SearchFile, SeedsFile, StopFile, schema};

/// An experiment: one question, and the runs that answer it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExperimentFile {
    /// The question, in one sentence.
    pub question: String,
    /// Path of the data recipe.
    pub data: String,
    /// Path of the model recipe.
    pub model: String,
    /// Need for base models, which have seen no instructions and no preferences: `required` refuses
    /// other models, `preferred` trains them and says so in the verdict. Default: any model.
    #[serde(default)]
    pub base_model: Option<BaseModel>,
    /// Settings of all runs that differ from the recipes, by dotted key.
    #[serde(default)]
    #[schemars(schema_with = "schema::settings")]
    pub settings: BTreeMap<String, Value>,
    /// Training settings of an SFT stage before the runs, which all runs share. It trains on the
    /// desirable completions of the full data. Default: no such stage.
    #[serde(default)]
    #[schemars(schema_with = "schema::sft")]
    pub sft: Option<Value>,
    /// Training settings of all runs.
    #[schemars(schema_with = "schema::train")]
    pub train: Value,
    /// Independent settings: lists of values by dotted key. Every value is combined with every
    /// other.
    #[serde(default)]
    #[schemars(schema_with = "schema::matrix")]
    pub matrix: BTreeMap<String, Vec<Value>>,
    /// Settings that change together: for each named axis, named groups of settings, in the order
    /// of figures. A group may also set `data` or `model` (another recipe) or `sft: null` (skips
    /// the SFT stage).
    #[serde(default)]
    #[schemars(schema_with = "schema::linked")]
    pub linked: BTreeMap<String, Groups>,
    /// Combinations to leave out. Each rule gives, for some axes, a value or a list of values; a
    /// combination that matches all of them is left out. With `seed`, only these seeds of it are.
    #[serde(default)]
    #[schemars(schema_with = "schema::exclude")]
    pub exclude: Vec<BTreeMap<String, Value>>,
    /// Hyperparameter search for each series, before series are compared. Default: none.
    #[serde(default)]
    pub search: Option<SearchFile>,
    /// Models that are evaluated like the runs, without training: each is a series of the report
    /// under its name, and may be its baseline.
    #[serde(default)]
    pub baselines: BTreeMap<String, BaselineFile>,
    /// Random seeds, one run each: of the adapter, the data order, and the draws of imbalance and
    /// noise. With `{values: […], resample: [prompts, sft]}` they also draw the training prompts
    /// and train the SFT stage. The held-out pairs do not depend on them.
    pub seeds: SeedsFile,
    /// Evaluation on held-out data.
    #[serde(default)]
    pub evaluate: EvaluateFile,
    /// Checkpoints, from which an interrupted run resumes.
    #[serde(default)]
    pub checkpoints: CheckpointsFile,
    /// Early stopping. Default: never.
    #[serde(default)]
    pub stop: Option<StopFile>,
    /// Axes of the figures.
    pub report: ReportFile,
}

/// A model that is evaluated without training, such as the one in use. Without any key, it is the
/// model that runs start from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaselineFile {
    /// Path of a model recipe. Its tokenizer and chat template must be those of the runs. Default:
    /// the recipe of the runs.
    pub model: Option<String>,
    /// Folder of a LoRA adapter in PEFT's format. It is merged into the weights of `model`; without
    /// `model`, into those that its `adapter_config.json` names.
    pub adapter: Option<String>,
}

/// Need of an experiment for a base model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BaseModel {
    /// Refuses models that are not base models, and those of unknown stage.
    Required,
    /// Warns about them in the plan and in the verdict.
    Preferred,
}

/// Checkpoints, from which an interrupted run resumes. They do not affect results.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointsFile {
    /// Optimizer steps between checkpoints. Default: 100.
    pub every: u64,
    /// Checkpoints of a run to keep on disk until it has finished. Default: 1.
    pub keep: usize,
}

impl Default for CheckpointsFile {
    fn default() -> Self {
        Self { every: 100, keep: 1 }
    }
}

/// Evaluation on held-out data.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluateFile {
    /// Number of held-out pairs to rank. Default: all.
    pub pairs: Option<usize>,
    /// Number of held-out thumbs outside of pairs to score. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thumbs: Option<usize>,
    /// Optimizer steps between evaluations. Default: only at the start and at the end, where runs
    /// are always evaluated.
    pub every: Option<u64>,
    /// Generation from held-out prompts, at the start and at the end. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generations: Option<GenerationsFile>,
    /// Multiple-choice tests by name, such as `arc`, to measure what training costs the model: at
    /// the start and at the end. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub choices: BTreeMap<String, ChoicesFile>,
    /// Tests with generated answers by name, such as `gsm8k`, at the start and at the end. Default:
    /// none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub exact: BTreeMap<String, ExactFile>,
}

impl EvaluateFile {
    pub(crate) fn limits(&self) -> HeldOutLimits {
        HeldOutLimits { pairs: self.pairs, thumbs: self.thumbs }
    }
}

/// Generation from held-out prompts.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerationsFile {
    /// Number of held-out prompts. Default: 32.
    #[serde(default = "GenerationsFile::default_prompts")]
    pub prompts: NonZeroUsize,
    /// Maximum number of new tokens. Default: 64.
    #[serde(default = "GenerationsFile::default_max_new_tokens")]
    pub max_new_tokens: NonZeroUsize,
    /// Sampling: `greedy`, or `nucleus` (`top_p` 0.95, temperature 0.7). Default: `greedy`.
    #[serde(default = "GenerationsFile::default_mode")]
    #[schemars(schema_with = "schema::mode")]
    pub mode: GenerationMode,
    /// Optimizer steps between samples at temperature 1, with their exact KL divergence from the
    /// reference, in addition to those at the start and at the end: the data of the KL–reward
    /// frontier. Default: no such samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<NonZeroU64>,
}

impl GenerationsFile {
    const fn default_prompts() -> NonZeroUsize {
        NonZeroUsize::MIN.saturating_add(31)
    }

    const fn default_max_new_tokens() -> NonZeroUsize {
        NonZeroUsize::MIN.saturating_add(63)
    }

    const fn default_mode() -> GenerationMode {
        GenerationMode::Greedy
    }

    pub(crate) fn options(self) -> GenerationOptions {
        let Self { prompts, max_new_tokens, mode, every: _ } = self;
        GenerationOptions { prompts: prompts.get(), max_new_tokens: max_new_tokens.get(), mode }
    }
}

/// Axes of the figures.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportFile {
    /// Setting on the x axis: a key of `matrix` or `linked`.
    pub x: String,
    /// Label of the x axis. Default: the key.
    pub x_label: Option<String>,
    /// Setting that distinguishes the curves (series): a key of `matrix` or `linked`.
    pub series: String,
    /// Series that all others are compared with.
    pub baseline: String,
    /// The comparison that the experiment is about. It is tested alone, the others as a family.
    /// Default: none, all comparisons are one family.
    pub primary: Option<PrimaryFile>,
    /// Significance level of adjusted p-values. Default: 0.05. A sweep that is looked at several
    /// times spends it over the looks.
    pub level: Option<f64>,
    /// Published numbers to show next to the sweep's own: one set, or a list of sets in different
    /// measures. Default: none.
    #[serde(default)]
    #[schemars(schema_with = "schema::references")]
    pub reference: Option<ReferencesFile>,
}

/// One set of published numbers, or several.
#[derive(Debug, Clone)]
pub struct ReferencesFile(pub Vec<ReferenceFile>);

impl<'de> Deserialize<'de> for ReferencesFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let references = if value.is_array() {
            serde_json::from_value(value)
        } else {
            serde_json::from_value(value).map(|reference| vec![reference])
        };
        references.map(Self).map_err(D::Error::custom)
    }
}

/// The comparison that an experiment is about.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrimaryFile {
    /// Series that is compared with the baseline.
    pub series: String,
    /// Value on the x axis. Default: the only one.
    pub x: Option<Value>,
    /// Quantity: `accuracy`, `auc` of thumbs, or `utility` of generations. Default: `accuracy`.
    #[serde(default = "PrimaryFile::default_measure")]
    #[schemars(schema_with = "schema::measure")]
    pub measure: Measure,
}

impl PrimaryFile {
    const fn default_measure() -> Measure {
        Measure::Accuracy
    }
}

/// Published numbers to show next to a sweep's own.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReferenceFile {
    /// Source: paper, table or figure, and model.
    pub label: String,
    /// The measure and its unit, if it is not the sweep's own (preference accuracy as a fraction of
    /// 1). Such numbers get a figure of their own; others appear in the sweep's figure.
    pub measure: Option<String>,
    /// For some of the series, pairs of a value on the x axis and the number there.
    pub series: BTreeMap<String, Vec<(Value, f64)>>,
}
