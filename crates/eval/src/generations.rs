//! Completions that a policy generates for held-out prompts.

mod samples;

use std::{collections::BTreeMap, path::Path};

use prospect_core::{draw::Draw, sample::mean};
use prospect_data::{Message, Split, read_binary, read_pairs};
use prospect_model::{
    Adapter, Decoder, Generated, GenerationConfig, ModelError, PackedBatch, Packer, Prompt, Sampling,
    Tokenizer,
};
use prospect_runs::{Generation, GenerationMode};
use prospect_train::{Encoder, Policy, ReferenceCache, Settings, TrainError};
use rayon::prelude::*;

use crate::{
    diversity::{distinct, repetition},
    passes,
};

pub use samples::PolicySamples;

/// True utility of a completion of a prompt; None if the prompt's utilities are unknown.
pub type Utility<'a> = dyn Fn(&[Message], &str) -> Option<f64> + Send + Sync + 'a;

/// Keys and values of prompts that are continued at the same time, in bytes.
const CACHE_BYTES: usize = 256 << 20;

/// Most prompts that are continued at the same time. More rows do not make products faster.
const PROMPTS_AT_ONCE: usize = 64;

/// Options of generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerationOptions {
    /// Number of held-out prompts.
    pub prompts: usize,
    /// Token limit of a completion.
    pub max_new_tokens: usize,
    /// Decoding strategy.
    pub mode: GenerationMode,
}

impl GenerationOptions {
    /// Returns how many prompts are continued at the same time, if the keys and values of one take
    /// `cache_bytes`: as many as 256 MiB hold, but at least a micro-batch, since training needs more
    /// memory for its sequences.
    pub fn prompts_at_once(&self, cache_bytes: usize, micro_batch_size: usize) -> usize {
        (CACHE_BYTES / cache_bytes.max(1)).max(micro_batch_size).clamp(1, PROMPTS_AT_ONCE)
    }
}

/// A fixed set of held-out prompts.
#[derive(Debug)]
pub struct HeldOutPrompts<'a> {
    options: GenerationOptions,
    /// Least number of prompts to continue at the same time.
    micro_batch_size: usize,
    tokenizer: &'a Tokenizer,
    eos_token_ids: Vec<u32>,
    prompts: Vec<HeldOutPrompt>,
}

#[derive(Debug)]
struct HeldOutPrompt {
    prompt_id: String,
    prompt: Vec<Message>,
    tokens: Vec<u32>,
    chosen: Option<ChosenCompletion>,
}

/// A completion of a held-out prompt that people preferred: the chosen one of its first pair, or a
/// desirable one.
#[derive(Debug)]
struct ChosenCompletion {
    messages: Vec<Message>,
    /// Number of tokens without the end token.
    tokens: usize,
}

/// A held-out prompt as text.
pub(crate) struct PromptText {
    pub(crate) prompt_id: String,
    pub(crate) prompt: Vec<Message>,
    chosen: Option<Vec<Message>>,
}

/// Reads the prompts of the test split by id, each with the chosen completion of its first pair or,
/// without pairs, its first desirable completion, if there is one.
pub(crate) fn read_prompts(dataset: &Path) -> Result<Vec<PromptText>, TrainError> {
    let mut pairs = read_pairs(dataset, Split::Test)?;
    pairs.sort_by(|a, b| (&a.prompt_id, &a.pair_id).cmp(&(&b.prompt_id, &b.pair_id)));
    let of_pairs = pairs.into_iter().map(|pair| PromptText {
        prompt_id: pair.prompt_id,
        prompt: pair.prompt,
        chosen: Some(pair.chosen),
    });
    let mut rows = read_binary(dataset, Split::Test)?;
    rows.sort_by(|a, b| (&a.prompt_id, !a.label, &a.id).cmp(&(&b.prompt_id, !b.label, &b.id)));
    let of_rows = rows.into_iter().map(|row| PromptText {
        prompt_id: row.prompt_id,
        prompt: row.prompt,
        chosen: row.label.then_some(row.completion),
    });
    let mut prompts: Vec<_> = of_pairs.chain(of_rows).collect();
    prompts.sort_by(|a, b| a.prompt_id.cmp(&b.prompt_id));
    prompts.dedup_by(|a, b| a.prompt_id == b.prompt_id);
    Ok(prompts)
}

/// A policy's completions and their metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct Generations {
    /// Metrics, with the prefix `eval_generations/`.
    pub values: BTreeMap<String, f64>,
    /// One completion per prompt.
    pub generations: Vec<Generation>,
}

impl<'a> HeldOutPrompts<'a> {
    /// Reads prompts of the test split of a prepared dataset, for policies trained with `settings`.
    /// Noise and imbalance of the training split do not change which prompts are drawn.
    pub fn read(
        dataset: &Path,
        options: GenerationOptions,
        settings: &Settings,
        encoder: &Encoder<'a>,
    ) -> Result<Self, TrainError> {
        let objective = &settings.objective;
        let end = encoder.end_marker().id;
        let encode = |PromptText { prompt_id, prompt, chosen }| -> Result<_, TrainError> {
            let Some(tokens) = encoder.encode_prompt(&prompt, objective.control(true))? else {
                return Ok(None);
            };
            let chosen = match chosen {
                None => None,
                Some(messages) => {
                    let encoded = encoder.encode_after(&prompt, objective.control(true), &messages)?;
                    encoded.map(|encoded| {
                        let end_token = usize::from(encoded.completion.last() == Some(&end));
                        ChosenCompletion { messages, tokens: encoded.completion.len() - end_token }
                    })
                }
            };
            Ok(Some(HeldOutPrompt { prompt_id, prompt, tokens, chosen }))
        };
        let encoded: Vec<Result<_, TrainError>> =
            read_prompts(dataset)?.into_par_iter().map(encode).collect();
        let encoded = encoded.into_iter().collect::<Result<Vec<Option<_>>, TrainError>>()?;
        let mut encoded: Vec<HeldOutPrompt> = encoded.into_iter().flatten().collect();
        Draw::new(0, "prompts to continue")
            .keep_lowest(&mut encoded, options.prompts, |prompt| &prompt.prompt_id);
        if encoded.is_empty() {
            return Err(TrainError::Examples(format!(
                "{}: no held-out prompt fits max_prompt_length; raise it",
                dataset.display()
            )));
        }
        Ok(Self {
            options,
            micro_batch_size: settings.micro_batch_size,
            tokenizer: encoder.tokenizer(),
            eos_token_ids: encoder.stop_token_ids().to_vec(),
            prompts: encoded,
        })
    }

    /// Generates one completion per prompt. `seed` seeds the sampling; `utility` is the true
    /// utility, if the data has one.
    ///
    /// Before the first step (`at_start`), policy and reference are equal, so the completions are
    /// those of the reference, which runs of one start share through `cache`.
    pub fn generate(
        &self,
        policy: &Policy<'_>,
        at_start: bool,
        cache: &ReferenceCache,
        seed: u64,
        utility: Option<&Utility<'_>>,
    ) -> Result<Generations, TrainError> {
        let sampling = match self.options.mode {
            GenerationMode::Greedy => Sampling::Greedy,
            GenerationMode::Nucleus => Sampling::Nucleus { top_p: 0.95, temperature: 0.7 },
        };
        let generated = self.complete(policy, at_start.then_some(cache), seed, sampling)?;
        let kl = if at_start { 0.0 } else { self.mean_log_ratio(policy, &generated)? };
        let generations = self
            .prompts
            .iter()
            .zip(&generated)
            .map(|(prompt, generated)| self.generation(prompt, generated, utility))
            .collect::<Result<Vec<_>, _>>()?;
        let mut values = self.values(&generated, &generations);
        values.insert("eval_generations/kl".to_owned(), kl);
        Ok(Generations { values, generations })
    }

    /// Generates one completion per prompt: by the reference if a cache is given.
    fn complete(
        &self,
        policy: &Policy<'_>,
        of_reference: Option<&ReferenceCache>,
        seed: u64,
        sampling: Sampling,
    ) -> Result<Vec<Generated>, TrainError> {
        let config = GenerationConfig {
            sampling,
            max_new_tokens: self.options.max_new_tokens,
            eos_token_ids: self.eos_token_ids.clone(),
            seed,
            batch_size: self.prompts_at_once(policy.decoder),
        };
        let prompts: Vec<_> = self
            .prompts
            .iter()
            .map(|prompt| Prompt { id: &prompt.prompt_id, tokens: &prompt.tokens })
            .collect();
        match of_reference {
            Some(cache) => cache.completions(policy.reference_name, &policy.reference, &prompts, &config),
            None => Ok(policy.decoder.generate(&prompts, &config, Adapter::On)?),
        }
    }

    /// Returns how many prompts to continue at the same time.
    fn prompts_at_once(&self, decoder: &Decoder) -> usize {
        let longest = self.prompts.iter().map(|prompt| prompt.tokens.len()).max().unwrap_or(0);
        let bytes = decoder.cache_bytes(longest + self.options.max_new_tokens);
        self.options.prompts_at_once(bytes, self.micro_batch_size)
    }

    fn generation(
        &self,
        prompt: &HeldOutPrompt,
        generated: &Generated,
        utility: Option<&Utility<'_>>,
    ) -> Result<Generation, TrainError> {
        let completion = self.tokenizer.decode(&generated.tokens, false)?.trim().to_owned();
        let HeldOutPrompt { prompt_id, prompt, chosen, .. } = prompt;
        let chosen = chosen.as_ref().map(|chosen| turns(&chosen.messages, false));
        let utility = |text: &str| utility.and_then(|utility| utility(prompt, text));
        Ok(Generation {
            prompt_id: prompt_id.clone(),
            prompt: turns(prompt, true),
            utility: utility(&completion),
            chosen_utility: chosen.as_deref().and_then(utility),
            completion,
            tokens: generated.tokens.len(),
            ended: generated.end.is_some(),
            mode: self.options.mode,
            chosen,
        })
    }

    fn values(&self, generated: &[Generated], generations: &[Generation]) -> BTreeMap<String, f64> {
        let texts: Vec<&str> = generations.iter().map(|generation| generation.completion.as_str()).collect();
        let mean_over_generated = |value: &dyn Fn(&Generated) -> f64| mean(generated.iter().map(value));
        let chosen = self.prompts.iter().filter_map(|prompt| prompt.chosen.as_ref());
        let chosen_length = mean(chosen.map(|chosen| chosen.tokens as f64));
        [
            ("length", mean_over_generated(&|generated| generated.tokens.len() as f64)),
            ("chosen_length", chosen_length),
            ("ended", mean_over_generated(&|generated| f64::from(u8::from(generated.end.is_some())))),
            ("entropy", mean_over_generated(&|generated| generated.entropy)),
            ("distinct_1", distinct(&texts, 1)),
            ("distinct_2", distinct(&texts, 2)),
            ("repetition", mean(texts.iter().filter_map(|text| repetition(text)))),
            ("utility", mean(generations.iter().filter_map(|generation| generation.utility))),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((format!("eval_generations/{name}"), value?)))
        .collect()
    }

    /// Mean of log π(y)/π_ref(y) over the generated completions, end tokens included.
    fn mean_log_ratio(&self, policy: &Policy<'_>, generated: &[Generated]) -> Result<f64, TrainError> {
        let ratios = self.log_ratios(policy, generated)?;
        Ok(mean(ratios.into_iter().flatten()).unwrap_or(0.0))
    }

    /// log π(y)/π_ref(y) of each generated completion, its end token included; None for an empty
    /// one.
    fn log_ratios(
        &self,
        policy: &Policy<'_>,
        generated: &[Generated],
    ) -> Result<Vec<Option<f64>>, TrainError> {
        let reference = policy.reference.decoder();
        self.by_completion(generated, |packed| {
            let policy_log_probs = policy.decoder.log_probs(packed, Adapter::On)?;
            let reference_log_probs = reference.log_probs(packed, Adapter::Off)?;
            let ratios = policy_log_probs.iter().zip(reference_log_probs);
            Ok(ratios.map(|(policy, reference)| policy - reference).collect())
        })
    }

    /// Packs the completions, end tokens included, and returns `value` of each; None for an empty
    /// one.
    fn by_completion(
        &self,
        generated: &[Generated],
        value: impl Fn(&PackedBatch) -> Result<Vec<f64>, ModelError>,
    ) -> Result<Vec<Option<f64>>, TrainError> {
        let completions: Vec<Vec<u32>> = generated
            .iter()
            .map(|generated| generated.tokens.iter().copied().chain(generated.end).collect())
            .collect();
        let mut values = vec![None; completions.len()];
        let nonempty: Vec<usize> =
            (0..completions.len()).filter(|index| !completions[*index].is_empty()).collect();
        let rows = |index: &usize| self.prompts[*index].tokens.len() + completions[*index].len();
        for pass in passes(nonempty.iter().map(rows)) {
            let batch = &nonempty[pass];
            let mut packer = Packer::default();
            for index in batch {
                let id = packer.add_prompt(&self.prompts[*index].tokens);
                packer.add_completion(id, &completions[*index], false);
            }
            for (index, value) in batch.iter().zip(value(&packer.pack()?)?) {
                values[*index] = Some(value);
            }
        }
        Ok(values)
    }
}

/// Joins the turns of a conversation with empty lines, each after its role if `roles` is set.
pub(crate) fn turns(messages: &[Message], roles: bool) -> String {
    let turn = |message: &Message| {
        if roles { format!("{}: {}", message.role, message.content) } else { message.content.clone() }
    };
    messages.iter().map(turn).collect::<Vec<_>>().join("\n\n")
}
