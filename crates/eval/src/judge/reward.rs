//! Bradley–Terry reward model.
//!
//! The reward is r(x, y) = β·log π(y|x)/π_ref(y|x) of a policy π trained with DPO's loss, the
//! Bradley–Terry negative log-likelihood −log σ(r(x, y_w) − r(x, y_l)) of pairs under that reward
//! (Rafailov et al. 2023, equation 7). It needs no scalar head, so any trainable model can be a
//! reward model.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use prospect_core::files::fingerprint;
use prospect_data::{Message, PairRow, Split, read_pairs};
use prospect_dist::SingleProcess;
use prospect_model::{Adapter, Decoder, Model, Packer, Recipe, Train};
use prospect_runs::preference;
use prospect_train::{
    Encoded, Encoder, FeedbackFormat, PairExample, ReferenceCache, Settings, TrainContext, TrainError,
    TrainingSet, train,
};

use super::{CompletionPair, Judge, JudgeError, Preference, agreement::Agreement};
use crate::{passes, rows_of};

/// Fewest training pairs of a reward model.
const LEAST_PAIRS: usize = 16;

/// Reward-model judge. It trains one reward model per test split, on the held-out pairs whose
/// prompts no policy has generated completions for.
pub struct RewardModel {
    /// Name of the recipe that training starts from.
    recipe_name: String,
    model: Model,
    recipe: Recipe,
    settings: Settings,
    /// Ids of prompts with generations.
    generated_prompts: BTreeSet<String>,
    cache: ReferenceCache,
    /// Trained models by the fingerprint of the test split.
    trained: BTreeMap<String, TrainedReward>,
}

/// A trained reward model.
struct TrainedReward {
    policy: Decoder,
    /// Conversations of the judged prompts, by prompt id.
    prompts: BTreeMap<String, Vec<Message>>,
    /// Number of training pairs.
    pairs: usize,
    /// Agreement with the pairs of judged prompts.
    agreement: Agreement,
}

impl RewardModel {
    /// Reward model that starts from the weights of the recipe `recipe_name`. The objective of
    /// `settings` must take pairs and a reference. `generated_prompts` are the ids of the prompts
    /// to judge, `references` is the folder of cached reference log-probs.
    pub fn new(
        recipe_name: String,
        recipe: Recipe,
        settings: Settings,
        generated_prompts: BTreeSet<String>,
        references: &Path,
    ) -> Result<Self, JudgeError> {
        if settings.objective.feedback_format() != FeedbackFormat::Paired
            || !settings.objective.needs_reference()
        {
            return Err(JudgeError::Unusable(
                "a reward model is trained on pairs with a reference: set `objective: dpo`, or a variant of it".to_owned(),
            ));
        }
        let model = recipe.load()?;
        let cache = ReferenceCache::new(references);
        let trained = BTreeMap::new();
        Ok(Self { recipe_name, model, recipe, settings, generated_prompts, cache, trained })
    }

    /// Trains a reward model for a dataset's test split unless there is one. Returns its key in
    /// `trained`.
    fn train(&mut self, dataset: &Path) -> Result<String, JudgeError> {
        let mut rows = read_pairs(dataset, Split::Test)?;
        rows.sort_by(|a, b| a.pair_id.cmp(&b.pair_id));
        rows.dedup_by(|a, b| a.pair_id == b.pair_id);
        if rows.is_empty() {
            return Err(JudgeError::Unusable(format!(
                "{} has no held-out pairs, which a reward model is trained on: judge with --endpoint instead",
                dataset.display()
            )));
        }
        let key = fingerprint(&rows.iter().map(|row| &row.pair_id).collect::<Vec<_>>())?;
        if !self.trained.contains_key(&key) {
            let (judged, others): (Vec<_>, Vec<_>) =
                rows.into_iter().partition(|row| self.generated_prompts.contains(&row.prompt_id));
            let trained = self.train_on(dataset, judged, others)?;
            self.trained.insert(key.clone(), trained);
        }
        Ok(key)
    }

    fn train_on(
        &self,
        dataset: &Path,
        judged: Vec<PairRow>,
        others: Vec<PairRow>,
    ) -> Result<TrainedReward, JudgeError> {
        let Self { model, recipe, settings, cache, .. } = self;
        let encoder = Encoder::new(model, settings.max_length, settings.max_prompt_length);
        let examples = PairExample::encode_for_evaluation(others, &settings.objective, &encoder)?;
        let pairs = examples.len();
        if pairs < LEAST_PAIRS {
            return Err(JudgeError::Unusable(format!(
                "{}: {pairs} held-out pairs have prompts without generations, and a reward model needs {LEAST_PAIRS} \
                 to train on: lower `evaluate.generations.prompts`, or hold out more (`split` of the data recipe)",
                dataset.display()
            )));
        }
        let context = TrainContext {
            model,
            train: recipe.train,
            activations: recipe.activations,
            settings,
            examples: &TrainingSet::Paired(examples),
            encoder: &encoder,
            seed: 0,
            checkpoints: None,
            zero: None,
            group: &SingleProcess,
        };
        let policy = train(&context, cache, &mut ())?.into_policy()?.policy;
        cache.save()?;
        let prompts =
            judged.iter().map(|row| (row.prompt_id.clone(), row.prompt.clone())).collect::<BTreeMap<_, _>>();
        let sides =
            judged.into_iter().flat_map(|row| [(row.prompt.clone(), row.chosen), (row.prompt, row.rejected)]);
        let rewards = self.rewards(&policy, &sides.collect::<Vec<_>>())?;
        let (sides, _) = rewards.as_chunks::<2>();
        let preferences =
            sides.iter().filter_map(|[chosen, rejected]| Some(preference((*chosen)?, (*rejected)?)));
        Ok(TrainedReward { policy, prompts, pairs, agreement: Agreement::new(preferences) })
    }

    /// Log-ratios log π/π_ref of completions, in nats; None if a prompt is too long. β is omitted,
    /// since it changes no comparison.
    fn rewards(
        &self,
        policy: &Decoder,
        completions: &[(Vec<Message>, Vec<Message>)],
    ) -> Result<Vec<Option<f64>>, TrainError> {
        let Self { model, recipe, settings, .. } = self;
        let encoder = Encoder::new(model, settings.max_length, settings.max_prompt_length);
        let encoded: Vec<Option<Encoded>> = completions
            .iter()
            .map(|(prompt, completion)| encoder.encode(prompt, completion))
            .collect::<Result<_, _>>()?;
        let mut rewards = vec![None; completions.len()];
        let fitting: Vec<(usize, &Encoded)> = encoded
            .iter()
            .enumerate()
            .filter_map(|(index, encoded)| Some((index, encoded.as_ref()?)))
            .collect();
        for pass in passes(fitting.iter().map(|(_, encoded)| rows_of(encoded))) {
            let fitting = &fitting[pass];
            let mut packer = Packer::default();
            for (_, encoded) in fitting {
                let prompt = packer.add_prompt(&encoded.prompt);
                packer.add_completion(prompt, &encoded.completion, false);
            }
            let packed = packer.pack()?;
            let policy_log_probs = policy.log_probs(&packed, Adapter::On)?;
            let reference = match recipe.train {
                Train::Lora(_) => policy.log_probs(&packed, Adapter::Off)?,
                Train::Full => model.decoder.log_probs(&packed, Adapter::Off)?,
            };
            let ratios = policy_log_probs.into_iter().zip(reference);
            for ((index, _), (policy, reference)) in fitting.iter().zip(ratios) {
                rewards[*index] = Some(policy - reference);
            }
        }
        Ok(rewards)
    }
}

impl Judge for RewardModel {
    fn name(&self) -> &'static str {
        "reward model"
    }

    fn about(&self) -> String {
        let descriptions = self.trained.values().map(|trained| {
            let TrainedReward { pairs, agreement: agreement @ Agreement { correct, ranked }, .. } = trained;
            let share = agreement.share();
            format!("trained on {pairs} pairs, it ranks {correct} of {ranked} pairs of the judged prompts correctly{share}")
        });
        let warning =
            self.trained.values().map(|trained| trained.agreement.warning()).max().unwrap_or_default();
        format!(
            "A Bradley-Terry reward model that starts from {}, trained on held-out pairs whose prompts have no \
             generations: {}.{warning}",
            self.recipe_name,
            descriptions.collect::<Vec<_>>().join("; ")
        )
    }

    fn at_chance(&self) -> bool {
        self.trained.values().any(|trained| trained.agreement.is_at_chance())
    }

    fn judge(
        &mut self,
        dataset: &Path,
        comparisons: &[CompletionPair],
    ) -> Result<Vec<Option<Preference>>, JudgeError> {
        let key = self.train(dataset)?;
        let trained = &self.trained[&key];
        let message =
            |content: &str| vec![Message { role: "assistant".to_owned(), content: content.to_owned() }];
        let mut completions = Vec::with_capacity(2 * comparisons.len());
        for CompletionPair { prompt_id, completion, other, .. } in comparisons {
            let Some(prompt) = trained.prompts.get(prompt_id) else {
                return Err(JudgeError::Unusable(format!(
                    "{}: the test split lacks the prompt {prompt_id} of a generation; was the dataset prepared again?",
                    dataset.display()
                )));
            };
            completions.extend([completion, other].map(|text| (prompt.clone(), message(text))));
        }
        let rewards = self.rewards(&trained.policy, &completions)?;
        let (sides, _) = rewards.as_chunks::<2>();
        let compare = |[ours, theirs]: &[Option<f64>; 2]| {
            let (ours, theirs) = ((*ours)?, (*theirs)?);
            Some(Preference { score: preference(ours, theirs), reward: Some(ours - theirs) })
        };
        Ok(sides.iter().map(compare).collect())
    }
}
