//! Experiment files as typed.

use std::{collections::BTreeMap, num::NonZeroUsize, path::PathBuf};

use prospect_core::config::{ConfigError, Document};
use prospect_data::{Pipeline, PipelineFile, TokenCounter};
use prospect_eval::GenerationOptions;
use prospect_model::ModelFile;
use prospect_runs::GenerationMode;
use prospect_train::token_counter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod groups;
mod schema;
mod search;
mod stop;

pub use groups::Groups;
pub use search::{DrawnFile, HalvingFile, SearchFile};
pub use stop::{Below, StopFile};

use crate::SweepError;

/// An experiment as typed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExperimentFile {
    /// The question, in a sentence.
    pub question: String,
    /// The data recipe, a path.
    pub data: String,
    /// The model recipe, a path.
    pub model: String,
    /// Settings of all runs that differ from the recipes, by dotted key.
    #[serde(default)]
    #[schemars(schema_with = "schema::settings")]
    pub settings: BTreeMap<String, Value>,
    /// Supervised fine-tuning on the full data's desirable completions first, shared by all runs.
    #[serde(default)]
    #[schemars(schema_with = "schema::sft")]
    pub sft: Option<Value>,
    /// Training settings of all runs.
    #[schemars(schema_with = "schema::train")]
    pub train: Value,
    /// Independent settings: every value with every other.
    #[serde(default)]
    #[schemars(schema_with = "schema::matrix")]
    pub matrix: BTreeMap<String, Vec<Value>>,
    /// Settings that go together: for each named axis, named groups of settings, in their order on figures. Beside settings
    /// there may be `data` and `model`, recipes in place of the experiment's, and `sft: null`, which leaves that stage out.
    #[serde(default)]
    #[schemars(schema_with = "schema::linked")]
    pub linked: BTreeMap<String, Groups>,
    /// Combinations to leave out: for some axes, a value or a list of values; a combination goes if all of them fit.
    #[serde(default)]
    #[schemars(schema_with = "schema::exclude")]
    pub exclude: Vec<BTreeMap<String, Value>>,
    /// A search for the settings at which each series is at its best, before series are compared (none).
    #[serde(default)]
    pub search: Option<SearchFile>,
    /// Seeds of adapter, data order and of the draws of imbalance and noise. The split stays.
    pub seeds: Vec<u64>,
    /// When and on what to evaluate.
    #[serde(default)]
    pub evaluate: EvaluateFile,
    /// How often runs keep their state, to go on from after an interruption.
    #[serde(default)]
    pub checkpoints: CheckpointsFile,
    /// When to end runs before their time (never).
    #[serde(default)]
    pub stop: Option<StopFile>,
    /// What to plot against what.
    pub report: ReportFile,
}

/// How often runs keep their state. Has no influence on results.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointsFile {
    /// Optimizer steps between checkpoints (100).
    pub every: u64,
    /// Checkpoints of a run that stay on disk until it has finished (1).
    pub keep: usize,
}

impl Default for CheckpointsFile {
    fn default() -> Self {
        Self { every: 100, keep: 1 }
    }
}

/// When and on what to evaluate.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluateFile {
    /// Held-out pairs to look at (all).
    pub pairs: Option<usize>,
    /// Optimizer steps between evaluations, beside those at the start and the end (none).
    pub every: Option<u64>,
    /// What the policy says to held-out prompts, at the start and at the end (nothing is generated).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generations: Option<GenerationsFile>,
}

/// What to generate.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerationsFile {
    /// Held-out prompts to continue (32).
    #[serde(default = "GenerationsFile::prompts")]
    pub prompts: NonZeroUsize,
    /// Tokens to stop after (64).
    #[serde(default = "GenerationsFile::max_new_tokens")]
    pub max_new_tokens: NonZeroUsize,
    /// How tokens are chosen: `greedy`, or `nucleus` (`top_p` 0.95, temperature 0.7) (greedy).
    #[serde(default = "GenerationsFile::mode")]
    #[schemars(schema_with = "schema::mode")]
    pub mode: GenerationMode,
}

impl GenerationsFile {
    const fn prompts() -> NonZeroUsize {
        NonZeroUsize::MIN.saturating_add(31)
    }

    const fn max_new_tokens() -> NonZeroUsize {
        NonZeroUsize::MIN.saturating_add(63)
    }

    const fn mode() -> GenerationMode {
        GenerationMode::Greedy
    }

    pub(crate) fn options(self) -> GenerationOptions {
        let Self { prompts, max_new_tokens, mode } = self;
        GenerationOptions { prompts: prompts.get(), max_new_tokens: max_new_tokens.get(), mode }
    }
}

/// What to plot against what.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportFile {
    /// The setting on the x axis: a key of `matrix` or `linked`.
    pub x: String,
    /// How the figure calls it.
    pub x_label: Option<String>,
    /// The setting that tells curves apart: a key of `matrix` or `linked`.
    pub series: String,
    /// The series that the others are compared with.
    pub baseline: String,
    /// Published numbers to see beside the sweep's own.
    pub reference: Option<ReferenceFile>,
}

/// Published numbers to see beside a sweep's own.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReferenceFile {
    /// Where they are from: paper, table or figure, model.
    pub label: String,
    /// What they measure, with its unit, if that is not the accuracy that the sweep measures, a share of 1. Such numbers get a
    /// figure of their own; others stand among the sweep's.
    pub measure: Option<String>,
    /// For some of the series, pairs of a value on the x axis and the number there.
    pub series: BTreeMap<String, Vec<(Value, f64)>>,
}

/// Where recipes and what they name are found.
pub struct Sources<'a> {
    /// Opens the recipe at a path.
    pub recipe: &'a dyn Fn(&str) -> Result<Document, ConfigError>,
    /// Turns a path or address in a recipe into a local path.
    pub locate: &'a prospect_data::Locate<'a>,
}

impl Sources<'_> {
    /// Resolves a data recipe, with what counts tokens where it asks for that. `counters` are those of other recipes, by the
    /// path of their model recipe: loading a tokenizer takes a while.
    pub fn pipeline(
        &self,
        document: &Document,
        counters: &mut BTreeMap<String, TokenCounter>,
    ) -> Result<Pipeline, SweepError> {
        let file = document.read::<PipelineFile>()?;
        let Some(recipe) = file.tokenizer().map(str::to_owned) else {
            return Ok(file.resolve(self.locate)?);
        };
        let counter = match counters.get(&recipe) {
            Some(counter) => counter.clone(),
            None => token_counter(&(self.recipe)(&recipe)?.read::<ModelFile>()?.resolve(self.locate)?)?,
        };
        counters.insert(recipe, counter.clone());
        Ok(file.resolve(self.locate)?.counting(counter))
    }
}

/// An experiment with overrides applied.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// The file's name without its ending.
    pub name: String,
    /// Where it came from, for messages.
    pub file: String,
    /// What it says.
    pub raw: ExperimentFile,
    /// The file, for lines in messages and for the part that the training settings are.
    pub(crate) document: Document,
}

impl Experiment {
    /// Reads an experiment. Overrides of `data.…` and `model.…` keys go to the recipes, others to the file itself.
    pub fn read(path: &str, mut document: Document, overrides: &[String]) -> Result<Self, ConfigError> {
        let mut of_recipes = Vec::new();
        for given in overrides {
            match given.split_once('=') {
                Some((key, _)) if key.starts_with("data.") || key.starts_with("model.") => {
                    of_recipes.push(given);
                }
                _ => document.set_text(given)?,
            }
        }
        let mut raw: ExperimentFile = document.read()?;
        for given in of_recipes {
            let (key, value) = given.split_once('=').unwrap_or((given, ""));
            let value = Document::from_text("--set", value)?.read()?;
            raw.settings.insert(key.to_owned(), value);
        }
        let name = PathBuf::from(path).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, file: path.to_owned(), raw, document })
    }

    /// An error behind file and line of what it names.
    pub(crate) fn complaint(&self, message: &str) -> SweepError {
        SweepError::Setting(self.document.blame(message))
    }
}
