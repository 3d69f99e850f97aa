//! Recipes: [`PipelineFile`] as written, [`Pipeline`] as resolved.

use prospect_core::files::fingerprint;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Contradictions, DataError, Duplicates, Imbalance, Mix, Noise, OnePerPair, ResolvedSources, Selection,
    SplitRule, SyntheticWorld, TokenCounter,
    config::{locate::Locate, source::SourceFiles},
    ingest::digest::DigestOptions,
};

/// Version of the dataset format. Increment it whenever the same recipe and inputs give other
/// files.
const FORMAT_VERSION: u32 = 3;

/// Recipe for a dataset, as written in `pipelines/*.yaml`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineFile {
    /// Seed of all random draws: held-out prompts, kept rows, flipped labels. Default: 0.
    #[serde(default)]
    seed: u64,
    /// Source of the feedback, or a list of sources.
    source: SourceFiles,
    /// Train/test split of sources without splits of their own.
    split: Option<SplitFile>,
    /// Policy for completions with contradictory labels. Default: keep.
    #[serde(default)]
    contradictions: Contradictions,
    /// Duplicate judgements, and training prompts that nearly duplicate a test prompt.
    #[serde(default)]
    deduplicate: Duplicates,
    /// Subset of the source: maximum length, domains, number of prompts.
    #[serde(default)]
    select: Selection,
    /// Model recipe whose tokenizer and chat template count tokens for `select.max_tokens`.
    tokenizer: Option<String>,
    /// Keep only one row of each training pair. Default: keep both.
    one_per_pair: Option<OnePerPair>,
    /// Proportions of the sources in the training split.
    #[serde(default)]
    mix: Mix,
    /// Class imbalance: how many training rows of each class to keep.
    #[serde(default)]
    imbalance: Imbalance,
    /// Label and text noise in training rows.
    #[serde(default)]
    noise: Noise,
    /// Largest acceptable fraction of unusable rows; more is an error. Default: 0.05.
    #[serde(default = "default_max_rejected")]
    max_rejected: f64,
}

fn default_max_rejected() -> f64 {
    0.05
}

/// Train/test split by prompt.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitFile {
    /// Fraction of prompts in the test split. Default: 0.1.
    test_fraction: f64,
}

/// Resolved recipe: inputs found and hashed, values checked. It determines the content of the
/// dataset.
#[derive(Debug, Clone, Serialize)]
pub struct Pipeline {
    format_version: u32,
    pub(crate) seed: u64,
    pub(crate) source: ResolvedSources,
    pub(crate) split: SplitRule,
    pub(crate) contradictions: Contradictions,
    pub(crate) deduplicate: Duplicates,
    pub(crate) select: Selection,
    /// Token counter for `select.max_tokens`.
    pub(crate) tokens: Option<TokenCounter>,
    pub(crate) one_per_pair: Option<OnePerPair>,
    pub(crate) mix: Mix,
    pub(crate) imbalance: Imbalance,
    pub(crate) noise: Noise,
    pub(crate) max_rejected: f64,
    /// Settings without effect.
    #[serde(skip)]
    pub(crate) warnings: Vec<String>,
    #[serde(skip)]
    notes: Vec<String>,
    /// Makes the first rejected row an error. Does not change the content of the dataset.
    #[serde(skip)]
    pub(crate) strict: bool,
}

/// Default of `split.test_fraction`.
const TEST_FRACTION: f64 = 0.1;

impl PipelineFile {
    fn test_fraction(&self) -> f64 {
        self.split.as_ref().map_or(TEST_FRACTION, |split| split.test_fraction)
    }

    /// Checks everything that does not require the inputs.
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

    /// Returns the model recipe whose tokens are counted, if any. Pass a counter for it to
    /// [`Pipeline::counting`].
    pub fn tokenizer(&self) -> Option<&str> {
        self.tokenizer.as_deref()
    }

    /// Checks the values, and finds and hashes the inputs.
    pub fn resolve(self, locate: &Locate<'_>) -> Result<Pipeline, DataError> {
        self.check()?;
        let test_fraction = self.test_fraction();
        let (source, messages) = self.source.resolve(self.seed, locate)?;
        let has_splits = source.has_splits();
        let split = if has_splits { SplitRule::Source } else { SplitRule::ByPrompt { test_fraction } };
        let mut warnings = messages.warnings;
        if has_splits && self.split.is_some() {
            warnings.push("`split.test_fraction` has no effect: the source has splits of its own".to_owned());
        }
        // A seed that draws nothing must not change the fingerprint.
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
            notes: messages.notes,
            strict: false,
        })
    }
}

impl Pipeline {
    /// Makes the first rejected row an error.
    #[must_use]
    pub fn strict(self) -> Self {
        Self { strict: true, ..self }
    }

    /// Sets the token counter, which `select.max_tokens` needs.
    #[must_use]
    pub fn counting(self, tokens: TokenCounter) -> Self {
        Self { tokens: Some(tokens), ..self }
    }

    /// Returns the world that the feedback is generated from, which knows the true utility of any
    /// completion; None for human feedback.
    pub fn world(&self) -> Option<&SyntheticWorld> {
        self.source.world()
    }

    /// Returns the measurements that the steps need. Fails if they need tokens and nothing counts
    /// them.
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

    /// Returns messages about the inputs for the user to check, such as detected kinds of sources.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Returns the hash of everything that determines the dataset: settings, input contents and
    /// format version.
    pub fn fingerprint(&self) -> Result<String, DataError> {
        Ok(fingerprint(self)?)
    }
}
