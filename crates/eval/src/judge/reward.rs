//! A Bradley-Terry reward model, trained by the engine that trains policies.
//!
//! The reward is r(x, y) = β·log π(y|x)/π_ref(y|x) of a policy π trained by DPO's loss, which is the Bradley-Terry
//! likelihood −log σ(r(x, y_w) − r(x, y_l)) of pairs under that reward (Rafailov et al. 2023, equation 7). So it needs no
//! scalar head, and any model that can be trained can be a reward model.

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
    Encoder, FeedbackFormat, PairExample, ReferenceCache, Settings, TrainContext, TrainError, TrainingSet,
    train,
};

use super::{Comparison, Judge, JudgeError};
use crate::{at_once, stats::binomial_exact};

/// Fewer held-out pairs teach nothing.
const LEAST_PAIRS: usize = 16;

/// A reward model for each test split that it is asked about, trained on those held-out pairs whose prompts no policy
/// has continued.
pub struct RewardModel {
    /// What it starts from, for people.
    from: String,
    model: Model,
    recipe: Recipe,
    settings: Settings,
    /// Prompts that policies have continued.
    continued: BTreeSet<String>,
    cache: ReferenceCache,
    /// By what they were trained on.
    trained: BTreeMap<String, Trained>,
}

struct Trained {
    policy: Decoder,
    /// The conversations of the prompts that were continued.
    prompts: BTreeMap<String, Vec<Message>>,
    pairs: usize,
    /// Pairs of continued prompts that it ranks right, and all of them.
    right: u64,
    of: u64,
}

impl RewardModel {
    /// A reward model that starts from the weights of a recipe called `from`. `settings` must be those of an objective on pairs with a
    /// reference; `continued` are the prompts to judge, `references` the folder of cached reference log-probs.
    pub fn new(
        from: String,
        recipe: Recipe,
        settings: Settings,
        continued: BTreeSet<String>,
        references: &Path,
    ) -> Result<Self, JudgeError> {
        if settings.objective.feedback_format() != FeedbackFormat::Paired
            || !settings.objective.needs_reference()
        {
            return Err(JudgeError::Nothing(
                "a reward model learns from pairs, beside a reference: set objective to dpo, or a relative of it".to_owned(),
            ));
        }
        let model = recipe.load()?;
        let cache = ReferenceCache::new(references);
        Ok(Self { from, model, recipe, settings, continued, cache, trained: BTreeMap::new() })
    }

    /// Trains on the held-out pairs of a dataset, unless that has been done; returns the key of what was trained.
    fn train(&mut self, dataset: &Path) -> Result<String, JudgeError> {
        let mut rows = read_pairs(dataset, Split::Test)?;
        rows.sort_by(|a, b| a.pair_id.cmp(&b.pair_id));
        rows.dedup_by(|a, b| a.pair_id == b.pair_id);
        let key = fingerprint(&rows.iter().map(|row| &row.pair_id).collect::<Vec<_>>())?;
        if !self.trained.contains_key(&key) {
            let (asked, others): (Vec<_>, Vec<_>) =
                rows.into_iter().partition(|row| self.continued.contains(&row.prompt_id));
            let trained = self.train_on(dataset, asked, others)?;
            self.trained.insert(key.clone(), trained);
        }
        Ok(key)
    }

    fn train_on(
        &self,
        dataset: &Path,
        asked: Vec<PairRow>,
        others: Vec<PairRow>,
    ) -> Result<Trained, JudgeError> {
        let Self { model, recipe, settings, cache, .. } = self;
        let encoder = Encoder::new(model, settings.max_length, settings.max_prompt_length);
        let examples = PairExample::encode_for_evaluation(others, &settings.objective, &encoder)?;
        let pairs = examples.len();
        if pairs < LEAST_PAIRS {
            return Err(JudgeError::Nothing(format!(
                "{}: {pairs} held-out pairs have prompts that no policy has continued, and a reward model needs \
                 {LEAST_PAIRS} to learn from: lower `evaluate.generations.prompts`, or hold out more (`split` of the data \
                 recipe)",
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
            group: &SingleProcess,
        };
        let policy = train(&context, cache, &mut ())?.into_policy()?.policy;
        cache.save()?;
        let prompts =
            asked.iter().map(|row| (row.prompt_id.clone(), row.prompt.clone())).collect::<BTreeMap<_, _>>();
        let said =
            asked.into_iter().flat_map(|row| [(row.prompt.clone(), row.chosen), (row.prompt, row.rejected)]);
        let rewards = self.rewards(&policy, &said.collect::<Vec<_>>())?;
        let (sides, _) = rewards.as_chunks::<2>();
        let ranked: Vec<f64> = sides
            .iter()
            .filter_map(|[chosen, rejected]| Some(preference((*chosen)?, (*rejected)?)))
            .collect();
        Ok(Trained {
            policy,
            prompts,
            pairs,
            right: ranked.iter().filter(|right| **right == 1.0).count() as u64,
            of: ranked.len() as u64,
        })
    }

    /// log π/π_ref of completions, in nats; None where a prompt is too long. β changes no comparison.
    fn rewards(
        &self,
        policy: &Decoder,
        said: &[(Vec<Message>, Vec<Message>)],
    ) -> Result<Vec<Option<f64>>, TrainError> {
        let Self { model, recipe, settings, .. } = self;
        let encoder = Encoder::new(model, settings.max_length, settings.max_prompt_length);
        let encoded: Vec<_> = said
            .iter()
            .map(|(prompt, completion)| encoder.encode(prompt, completion))
            .collect::<Result<_, _>>()?;
        let mut rewards = Vec::with_capacity(said.len());
        for encoded in encoded.chunks(at_once(settings)) {
            let mut packer = Packer::default();
            for encoded in encoded.iter().flatten() {
                let prompt = packer.add_prompt(&encoded.prompt);
                packer.add_completion(prompt, &encoded.completion, false);
            }
            let packed = packer.pack()?;
            let own = policy.log_probs(&packed, Adapter::On)?;
            let reference = match recipe.train {
                Train::Lora(_) => policy.log_probs(&packed, Adapter::Off)?,
                Train::Full => model.decoder.log_probs(&packed, Adapter::Off)?,
            };
            let mut ratios = own.into_iter().zip(reference).map(|(own, reference)| own - reference);
            rewards.extend(encoded.iter().map(|encoded| encoded.as_ref().and_then(|_| ratios.next())));
        }
        Ok(rewards)
    }
}

impl Judge for RewardModel {
    fn name(&self) -> &'static str {
        "reward model"
    }

    fn about(&self) -> String {
        let of_each = self.trained.values().map(|trained| {
            let Trained { pairs, right, of, .. } = trained;
            let interval = binomial_exact(*right, *of).map_or_else(
                |_| String::new(),
                |share| {
                    let [value, low, high] = [share.value, share.low, share.high].map(|share| 100.0 * share);
                    format!(" ({value:.0} %, 95 % interval {low:.0} to {high:.0})")
                },
            );
            format!("trained on {pairs} pairs, it ranks {right} of {of} pairs of the judged prompts right{interval}")
        });
        format!(
            "A Bradley-Terry reward model that starts from {}, trained on held-out pairs whose prompts no policy has \
             continued: {}.",
            self.from,
            of_each.collect::<Vec<_>>().join("; ")
        )
    }

    fn judge(&mut self, dataset: &Path, comparisons: &[Comparison]) -> Result<Vec<Option<f64>>, JudgeError> {
        let key = self.train(dataset)?;
        let trained = &self.trained[&key];
        let message =
            |content: &str| vec![Message { role: "assistant".to_owned(), content: content.to_owned() }];
        let mut said = Vec::with_capacity(2 * comparisons.len());
        for Comparison { prompt_id, completion, other, .. } in comparisons {
            let Some(prompt) = trained.prompts.get(prompt_id) else {
                return Err(JudgeError::Nothing(format!(
                    "{}: its test split lacks the prompt {prompt_id}, which was continued; was it prepared anew?",
                    dataset.display()
                )));
            };
            said.extend([completion, other].map(|text| (prompt.clone(), message(text))));
        }
        let rewards = self.rewards(&trained.policy, &said)?;
        let (sides, _) = rewards.as_chunks::<2>();
        Ok(sides.iter().map(|[ours, theirs]| Some(preference((*ours)?, (*theirs)?))).collect())
    }
}
