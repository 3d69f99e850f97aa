//! Recipes: [`PipelineFile`] as written, [`Pipeline`] as resolved.

use prospect_core::files::fingerprint;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Contradictions, DataError, Duplicates, Imbalance, Mix, Noise, OnePerPair, OnePerPrompt, RecordField,
    ResolvedSources, Selection, SplitBy, SplitRule, SyntheticWorld, TokenCounter,
    config::{id_list::IdList, locate::Locate, source::SourceFiles},
    ingest::digest::DigestOptions,
    steps::corrections::Corrections,
    table::group_salt::GroupSalt,
};

/// Version of the dataset format. Increment it whenever the same recipe and inputs give other
/// files.
const FORMAT_VERSION: u32 = 5;

/// Default of `split.test_fraction`.
const TEST_FRACTION: f64 = 0.1;

/// Recipe for a dataset, as written in `pipelines/*.yaml`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineFile {
    /// Seed of all random draws: held-out prompts, kept rows, flipped labels. Default: 0.
    #[serde(default)]
    seed: u64,
    /// Source of the feedback, or a list of sources.
    source: SourceFiles,
    /// Secret that the hashes of groups (`columns.group`) are salted with. It is not stored.
    /// Default: the seed, which is no secret.
    group_salt: Option<String>,
    /// Train/test split of sources without splits of their own.
    split: Option<SplitFile>,
    /// File with the ids of judgements to drop, one per line, as `prospect triage` writes them: ids
    /// of pairs, or of rows outside of pairs. Default: none.
    exclude: Option<String>,
    /// File with the ids of judgements to flip, one per line. The sides of a pair are exchanged; a
    /// row outside of pairs gets the other label. Default: none.
    flip: Option<String>,
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
    /// Keep only one row of each training prompt, its best or its worst: the KTO paper's
    /// one-y-per-x. Default: keep all.
    one_per_prompt: Option<OnePerPrompt>,
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

/// Train/test split. No prompt is in both splits.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitFile {
    /// Unit that is held out as a whole. Default: prompt.
    #[serde(default)]
    by: SplitBy,
    /// Fraction of prompts in the test split; by group, fraction of groups; by time, fraction of
    /// records. Default: 0.1.
    #[serde(default = "default_test_fraction")]
    test_fraction: f64,
}

fn default_test_fraction() -> f64 {
    TEST_FRACTION
}

/// Resolved recipe: inputs found and hashed, values checked. It determines the content of the
/// dataset.
#[derive(Debug, Clone, Serialize)]
pub struct Pipeline {
    format_version: u32,
    pub(crate) seed: u64,
    /// Hash of the secret salt of groups, if one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    group_salt: Option<String>,
    pub(crate) source: ResolvedSources,
    pub(crate) split: SplitRule,
    #[serde(skip_serializing_if = "Corrections::is_none")]
    pub(crate) corrections: Corrections,
    pub(crate) contradictions: Contradictions,
    pub(crate) deduplicate: Duplicates,
    pub(crate) select: Selection,
    /// Token counter for `select.max_tokens`.
    pub(crate) tokens: Option<TokenCounter>,
    pub(crate) one_per_pair: Option<OnePerPair>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) one_per_prompt: Option<OnePerPrompt>,
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

impl PipelineFile {
    fn test_fraction(&self) -> f64 {
        self.split.as_ref().map_or(TEST_FRACTION, |split| split.test_fraction)
    }

    fn split_by(&self) -> SplitBy {
        self.split.as_ref().map_or(SplitBy::Prompt, |split| split.by)
    }

    /// Checks settings that need each other.
    fn check_combinations(&self) -> Result<(), DataError> {
        let fail = |key: &'static str, value: &str, message| {
            Err(DataError::Value { key: key.into(), value: value.to_owned(), message })
        };
        let (groups, times) = (self.source.maps(RecordField::Group), self.source.maps(RecordField::Time));
        if self.split_by() == SplitBy::Group && !groups {
            return fail("split.by", "group", "it needs groups; name their column in `source.columns.group`");
        }
        if self.split_by() == SplitBy::Time && !times {
            return fail("split.by", "time", "it needs times; name their column in `source.columns.time`");
        }
        if self.contradictions == Contradictions::Latest && !times {
            return fail(
                "contradictions",
                "latest",
                "it needs times; name their column in `source.columns.time`",
            );
        }
        if self.group_salt.is_some() && !groups {
            return fail("group_salt", "given", "it has no effect without `source.columns.group`; remove it");
        }
        if self.group_salt.as_ref().is_some_and(String::is_empty) {
            return fail("group_salt", "empty", "write a secret text, or remove it");
        }
        if self.one_per_pair.is_some() && self.one_per_prompt.is_some() {
            return fail(
                "one_per_prompt",
                "given",
                "it leaves nothing for `one_per_pair`; remove one of them",
            );
        }
        if let (Some(limit), None) = (self.select.max_tokens, &self.tokenizer) {
            let message = "counting tokens needs `tokenizer`, the path of a model recipe";
            return fail("select.max_tokens", &limit.to_string(), message);
        }
        if let (None, Some(recipe)) = (self.select.max_tokens, &self.tokenizer) {
            let message = "it has no effect without `select.max_tokens`; remove one or set the other";
            return fail("tokenizer", recipe, message);
        }
        Ok(())
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
                return Err(DataError::Value { key: key.into(), value: value.to_string(), message });
            }
        }
        self.check_combinations()?;
        if let (None, Some(seed)) = (self.select.train_prompts, self.select.train_seed) {
            let message = "it has no effect without `select.train_prompts`; remove one or set the other";
            let (key, value) = ("select.train_seed".into(), seed.to_string());
            return Err(DataError::Value { key, value, message });
        }
        self.mix.check()?;
        self.imbalance.check()?;
        self.noise.check()?;
        self.source.check()
    }

    /// Returns true if the training prompts are a draw from all of them.
    pub fn draws_training_prompts(&self) -> bool {
        self.select.train_prompts.is_some()
    }

    /// Returns the model recipe whose tokens are counted, if any. Pass a counter for it to
    /// [`Pipeline::counting`].
    pub fn tokenizer(&self) -> Option<&str> {
        self.tokenizer.as_deref()
    }

    /// Checks the values, and finds and hashes the inputs.
    pub fn resolve(self, locate: &Locate<'_>) -> Result<Pipeline, DataError> {
        self.check()?;
        let rule = SplitRule::new(self.split_by(), self.test_fraction());
        let (mut source, messages) = self.source.resolve(self.seed, locate)?;
        let salt = self.group_salt.as_deref().map(GroupSalt::from_secret);
        if let Some(salt) = salt {
            source.set_salt(salt);
        }
        let has_splits = source.has_splits();
        let split = if has_splits { SplitRule::Source } else { rule };
        let mut warnings = messages.warnings;
        if has_splits && self.split.is_some() {
            warnings.push("`split` has no effect: the source has splits of its own".to_owned());
        }
        if let Some(column) = source.mapping(RecordField::Time)
            && !matches!(split, SplitRule::ByTime { .. })
            && self.contradictions != Contradictions::Latest
        {
            warnings.push(format!(
                "`columns.time: {column}` selects nothing without `split.by: time` or `contradictions: latest`"
            ));
        }
        let list = |key, address: Option<String>| {
            address.map(|address| IdList::read(key, &address, locate)).transpose()
        };
        let corrections =
            Corrections { exclude: list("exclude", self.exclude)?, flip: list("flip", self.flip)? };
        corrections.check()?;
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
            group_salt: salt.map(|salt| salt.fingerprint()),
            source,
            split,
            corrections,
            contradictions: self.contradictions,
            deduplicate: self.deduplicate,
            select: self.select,
            tokens: None,
            one_per_pair: self.one_per_pair,
            one_per_prompt: self.one_per_prompt,
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
                let (key, value) = ("select.max_tokens".into(), most.to_string());
                return Err(DataError::Value { key, value, message });
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
