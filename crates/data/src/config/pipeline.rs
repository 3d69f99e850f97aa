//! Recipes: what a YAML file says, and what that resolves to.

use prospect_core::files::fingerprint;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{SplitRule, config::{locate::Locate, source::SourceFiles}, Contradictions, DataError, Duplicates, Imbalance, Mix, Noise, OnePerPair, Selection, ResolvedSources, TokenCounter, SyntheticWorld, ingest::digest::DigestOptions};

/// Raised whenever the same recipe and inputs would give other files.
const FORMAT_VERSION: u32 = 3;

/// A recipe as written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineFile {
    /// Decides every draw: held-out prompts, rows kept, labels flipped.
    #[serde(default)]
    seed: u64,
    /// Where feedback comes from: one source, or a list of them.
    source: SourceFiles,
    /// How prompts are held out, for a source without splits of its own.
    split: Option<SplitFile>,
    /// What becomes of completions with both labels.
    #[serde(default)]
    contradictions: Contradictions,
    /// What becomes of repeated judgements, and of training prompts that are nearly the same as a test prompt.
    #[serde(default)]
    deduplicate: Duplicates,
    /// Part of the source: short conversations, so many prompts.
    #[serde(default)]
    select: Selection,
    /// The model recipe whose tokenizer and chat template count tokens, for `select.max_tokens`.
    tokenizer: Option<String>,
    /// Keep one row of each training pair (both if not given).
    one_per_pair: Option<OnePerPair>,
    /// How much of the training split each source is.
    #[serde(default)]
    mix: Mix,
    /// How many training rows of each class to keep.
    #[serde(default)]
    imbalance: Imbalance,
    /// How judgements of training rows are turned round and completions spoilt.
    #[serde(default)]
    noise: Noise,
    /// A larger share of unusable rows is an error.
    #[serde(default = "default_max_rejected")]
    max_rejected: f64,
}

fn default_max_rejected() -> f64 {
    0.05
}

/// `split` as written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitFile {
    /// The share of prompts held out.
    test_fraction: f64,
}

/// A recipe with its inputs found and hashed and its values checked: all that decides what the dataset holds.
#[derive(Debug, Clone, Serialize)]
pub struct Pipeline {
    format_version: u32,
    pub(crate) seed: u64,
    pub(crate) source: ResolvedSources,
    pub(crate) split: SplitRule,
    pub(crate) contradictions: Contradictions,
    pub(crate) deduplicate: Duplicates,
    pub(crate) select: Selection,
    /// Counts tokens, where `select.max_tokens` asks for it.
    pub(crate) tokens: Option<TokenCounter>,
    pub(crate) one_per_pair: Option<OnePerPair>,
    pub(crate) mix: Mix,
    pub(crate) imbalance: Imbalance,
    pub(crate) noise: Noise,
    pub(crate) max_rejected: f64,
    /// Settings of the recipe that change nothing here.
    #[serde(skip)]
    pub(crate) warnings: Vec<String>,
    #[serde(skip)]
    notes: Vec<String>,
    /// Whether the first row that cannot be used is an error. It does not change what a dataset holds.
    #[serde(skip)]
    pub(crate) strict: bool,
}

/// The share of prompts held out where neither source nor recipe says.
const TEST_FRACTION: f64 = 0.1;

impl PipelineFile {
    fn test_fraction(&self) -> f64 {
        self.split.as_ref().map_or(TEST_FRACTION, |split| split.test_fraction)
    }

    /// Checks all that can be told without looking for the inputs.
    pub fn check(&self) -> Result<(), DataError> {
        let mut fractions = vec![
            ("split.test_fraction", self.test_fraction()),
            ("imbalance.keep_desirable", self.imbalance.keep_desirable),
            ("imbalance.keep_undesirable", self.imbalance.keep_undesirable),
            ("max_rejected", self.max_rejected),
        ];
        fractions.extend(self.deduplicate.near.map(|near| ("deduplicate.near.threshold", near.threshold)));
        fractions.extend(self.noise.fractions());
        for (key, value) in fractions {
            if !(0.0..=1.0).contains(&value) {
                let message = "it is a fraction, from 0 to 1";
                return Err(DataError::Value { key, value: value.to_string(), message });
            }
        }
        if let (Some(limit), None) = (self.select.max_tokens, &self.tokenizer) {
            let message = "counting tokens needs `tokenizer`, the path of a model recipe";
            return Err(DataError::Value { key: "select.max_tokens", value: limit.to_string(), message });
        }
        if let (None, Some(recipe)) = (self.select.max_tokens, &self.tokenizer) {
            let message = "it has no effect without `select.max_tokens`; remove one or set the other";
            return Err(DataError::Value { key: "tokenizer", value: recipe.clone(), message });
        }
        self.mix.check()?;
        self.imbalance.check()?;
        self.noise.check()?;
        self.source.check()
    }

    /// The model recipe whose tokens are counted, if any; give what counts them to [`Pipeline::counting`].
    pub fn tokenizer(&self) -> Option<&str> {
        self.tokenizer.as_deref()
    }

    /// Checks the values, and finds and hashes the inputs.
    pub fn resolve(self, locate: &Locate<'_>) -> Result<Pipeline, DataError> {
        self.check()?;
        let test_fraction = self.test_fraction();
        let (source, notes) = self.source.resolve(self.seed, locate)?;
        let has_splits = source.has_splits();
        let split = if has_splits { SplitRule::Source } else { SplitRule::ByPrompt { test_fraction } };
        let mut warnings = notes.warnings;
        if has_splits && self.split.is_some() {
            warnings.push("`split.test_fraction` has no effect: the source has splits of its own".to_owned());
        }
        // A seed that draws nothing does not make another dataset.
        let (mut imbalance, mut noise) = (self.imbalance, self.noise);
        if imbalance.is_none() {
            imbalance.seed = None;
        }
        if noise.is_none() {
            noise.seed = None;
        }
        Ok(Pipeline {
            format_version: FORMAT_VERSION,
            seed: self.seed,
            source,
            split,
            contradictions: self.contradictions,
            deduplicate: self.deduplicate,
            select: self.select,
            tokens: None,
            one_per_pair: self.one_per_pair,
            mix: self.mix,
            imbalance,
            noise,
            max_rejected: self.max_rejected,
            warnings,
            notes: notes.notes,
            strict: false,
        })
    }
}

impl Pipeline {
    /// Makes the first row that cannot be used an error.
    #[must_use]
    pub fn strict(self) -> Self {
        Self { strict: true, ..self }
    }

    /// Says how tokens are counted.
    #[must_use]
    pub fn counting(self, tokens: TokenCounter) -> Self {
        Self { tokens: Some(tokens), ..self }
    }

    /// The world that the feedback is generated from, which knows the true utility of any completion; None if people gave
    /// the feedback.
    pub fn world(&self) -> Option<&SyntheticWorld> {
        self.source.world()
    }

    /// What to find out about groups.
    pub(crate) fn digest_options(&self) -> Result<DigestOptions, DataError> {
        let max_tokens = match (self.select.max_tokens, &self.tokens) {
            (None, _) => None,
            (Some(most), Some(tokens)) => Some((most, tokens.clone())),
            (Some(most), None) => {
                let message = "nothing counts tokens; call `Pipeline::counting`";
                return Err(DataError::Value { key: "select.max_tokens", value: most.to_string(), message });
            }
        };
        Ok(DigestOptions { sign: self.deduplicate.near.is_some(), max_tokens })
    }

    /// What was found out about the inputs and is worth a look, such as kinds that were sniffed.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Names the dataset by all that decides what it holds: settings, input contents and format version.
    pub fn fingerprint(&self) -> Result<String, DataError> {
        Ok(fingerprint(self)?)
    }
}
