//! Sequence lengths against the position limit of the model.

use std::collections::BTreeMap;

use prospect_data::{Message, Split, read_binary, read_pairs};
use prospect_model::Recipe;
use prospect_train::{Encoder, FeedbackFormat, Settings};

use crate::{SweepError, plan::SweepPlan};

/// Settings that decide which sequences of a dataset a model sees: model, dataset, `max_length`,
/// `max_prompt_length`, and whether it trains on pairs.
type SequenceKey = (usize, usize, usize, usize, bool);

/// Checks that no sequence exceeds the position limit of its model.
pub(super) struct LengthCheck<'a> {
    plan: &'a SweepPlan,
    /// Position limits, by model.
    limits: BTreeMap<usize, usize>,
    /// Tokens of a sequence beyond the limit, if there is one.
    beyond_limit: BTreeMap<SequenceKey, Option<usize>>,
}

impl<'a> LengthCheck<'a> {
    pub(super) fn new(plan: &'a SweepPlan) -> Self {
        Self { plan, limits: BTreeMap::new(), beyond_limit: BTreeMap::new() }
    }

    /// Returns an error message if `max_length` exceeds the position limit and a sequence does too.
    ///
    /// `section` is the part of the experiment that holds `settings`: `train` or `sft`. Sequences
    /// are tokenized only if `max_length` exceeds the limit.
    pub(super) fn problem(
        &mut self,
        section: &str,
        model: usize,
        dataset: usize,
        settings: &Settings,
    ) -> Result<Option<String>, SweepError> {
        let recipe = &self.plan.models[model];
        let limit = match self.limits.get(&model) {
            Some(limit) => *limit,
            None => recipe.architecture()?.max_positions,
        };
        self.limits.insert(model, limit);
        if settings.max_length <= limit {
            return Ok(None);
        }
        let is_paired = settings.objective.feedback_format() == FeedbackFormat::Paired;
        let key = (model, dataset, settings.max_length, settings.max_prompt_length, is_paired);
        let tokens = match self.beyond_limit.get(&key) {
            Some(tokens) => *tokens,
            None => self.find_beyond_limit(recipe, dataset, settings, limit)?,
        };
        self.beyond_limit.insert(key, tokens);
        Ok(tokens.map(|tokens| {
            format!(
                "{section}.max_length is {}, but {} takes at most {limit} tokens (max_position_embeddings), and a \
                 sequence of {} has {tokens}: set {section}.max_length to {limit} or less",
                settings.max_length,
                recipe.name,
                self.plan.datasets[dataset].path.display()
            )
        }))
    }

    /// Returns the tokens of the first training or held-out sequence beyond `limit`.
    fn find_beyond_limit(
        &self,
        recipe: &Recipe,
        dataset: usize,
        settings: &Settings,
        limit: usize,
    ) -> Result<Option<usize>, SweepError> {
        let path = &self.plan.datasets[dataset].path;
        let (tokenizer, template) = recipe.load_text()?;
        let encoder =
            Encoder::from_text(&tokenizer, &template, settings.max_length, settings.max_prompt_length);
        let excess = |prompt: &[Message], completion: &[Message]| -> Result<Option<usize>, SweepError> {
            let encoded = encoder.encode(prompt, completion)?;
            let tokens = encoded.map(|encoded| encoded.prompt.len() + encoded.completion.len());
            Ok(tokens.filter(|tokens| *tokens > limit))
        };
        let mut pairs = read_pairs(path, Split::Test)?;
        let mut rows = read_binary(path, Split::Test)?;
        rows.retain(|row| row.pair_id.is_none());
        if settings.objective.feedback_format() == FeedbackFormat::Paired {
            pairs.extend(read_pairs(path, Split::Train)?);
        } else {
            rows.extend(read_binary(path, Split::Train)?);
        }
        for row in rows {
            if let Some(tokens) = excess(&row.prompt, &row.completion)? {
                return Ok(Some(tokens));
            }
        }
        for row in pairs {
            for completion in [&row.chosen, &row.rejected] {
                if let Some(tokens) = excess(&row.prompt, completion)? {
                    return Ok(Some(tokens));
                }
            }
        }
        Ok(None)
    }
}
