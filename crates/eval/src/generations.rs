//! What a policy says to held-out prompts.

use std::{collections::BTreeMap, path::Path};

use prospect_core::draw::Draw;
use prospect_data::{Message, PairRow, Split, read_pairs};
use prospect_model::{Adapter, Generated, GenerationConfig, Packer, Prompt, Sampling, Tokenizer};
use prospect_runs::{Generation, GenerationMode};
use prospect_train::{Encoder, Policy, ReferenceModel, Settings, TrainError};

use crate::{
    at_once,
    text::{distinct, repetition},
};

/// The true utility of a completion under a prompt; None if it is not known of that prompt.
pub type Utility<'a> = dyn Fn(&[Message], &str) -> Option<f64> + Send + Sync + 'a;

/// What to generate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerationOptions {
    /// Held-out prompts to continue.
    pub prompts: usize,
    /// Tokens to stop after.
    pub max_new_tokens: usize,
    /// How tokens are chosen.
    pub mode: GenerationMode,
}

/// A fixed set of held-out prompts to continue.
#[derive(Debug)]
pub struct HeldOutPrompts<'a> {
    options: GenerationOptions,
    at_once: usize,
    tokenizer: &'a Tokenizer,
    prompts: Vec<HeldOutPrompt>,
}

#[derive(Debug)]
struct HeldOutPrompt {
    /// The first pair of the prompt.
    row: PairRow,
    tokens: Vec<u32>,
    /// Tokens of the pair's preferred completion, without the end marker.
    chosen_length: usize,
}

/// What a policy said, and what there is to say of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Generations {
    /// Values under names that start with `eval_generations/`.
    pub values: BTreeMap<String, f64>,
    /// One for each prompt.
    pub generations: Vec<Generation>,
}

impl<'a> HeldOutPrompts<'a> {
    /// Reads prompts of the test split of a prepared dataset, the same ones whatever the training split went through, for
    /// policies trained with `settings`.
    pub fn read(
        dataset: &Path,
        options: GenerationOptions,
        settings: &Settings,
        encoder: &Encoder<'a>,
    ) -> Result<Self, TrainError> {
        let objective = &settings.objective;
        let mut rows = read_pairs(dataset, Split::Test)?;
        rows.sort_by(|a, b| (&a.prompt_id, &a.pair_id).cmp(&(&b.prompt_id, &b.pair_id)));
        rows.dedup_by(|a, b| a.prompt_id == b.prompt_id);
        let mut encoded = Vec::new();
        for row in rows {
            let tokens = encoder.encode_prompt(&row.prompt, objective.control(true))?;
            let chosen = encoder.encode_after(&row.prompt, objective.control(true), &row.chosen)?;
            if let (Some(tokens), Some(chosen)) = (tokens, chosen) {
                let end = Some(encoder.tokenizer().eos_token_id()?);
                let marker = usize::from(chosen.completion.last().copied() == end);
                encoded.push(HeldOutPrompt { row, tokens, chosen_length: chosen.completion.len() - marker });
            }
        }
        let draw = Draw::new(0, "prompts to continue");
        draw.keep_lowest(&mut encoded, options.prompts, |prompt| &prompt.row.prompt_id);
        if encoded.is_empty() {
            return Err(TrainError::Examples(format!(
                "{}: no held-out prompt fits max_prompt_length",
                dataset.display()
            )));
        }
        Ok(Self { options, at_once: at_once(settings), tokenizer: encoder.tokenizer(), prompts: encoded })
    }

    /// Continues the prompts. `seed` is that of the draws; `utility` judges what is said, where the data knows its truth.
    pub fn generate(
        &self,
        policy: &Policy<'_>,
        seed: u64,
        utility: Option<&Utility<'_>>,
    ) -> Result<Generations, TrainError> {
        let how = GenerationConfig {
            sampling: match self.options.mode {
                GenerationMode::Greedy => Sampling::Greedy,
                GenerationMode::Nucleus => Sampling::Nucleus { top_p: 0.95, temperature: 0.7 },
            },
            max_new_tokens: self.options.max_new_tokens,
            eos_token_id: self.tokenizer.eos_token_id()?,
            seed,
            batch_size: self.at_once,
        };
        let asked: Vec<_> = self
            .prompts
            .iter()
            .map(|prompt| Prompt { id: &prompt.row.prompt_id, tokens: &prompt.tokens })
            .collect();
        let generated = policy.decoder.generate(&asked, &how, Adapter::On)?;
        let kl = self.mean_log_ratio(policy, &generated, how.eos_token_id)?;
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

    fn generation(
        &self,
        prompt: &HeldOutPrompt,
        generated: &Generated,
        utility: Option<&Utility<'_>>,
    ) -> Result<Generation, TrainError> {
        let completion = self.tokenizer.decode(&generated.tokens, false)?.trim().to_owned();
        let HeldOutPrompt { row, .. } = prompt;
        let chosen = turns(&row.chosen, false);
        let utility = |text: &str| utility.and_then(|utility| utility(&row.prompt, text));
        Ok(Generation {
            prompt_id: row.prompt_id.clone(),
            prompt: turns(&row.prompt, true),
            utility: utility(&completion),
            chosen_utility: utility(&chosen),
            completion,
            tokens: generated.tokens.len(),
            ended: generated.ended,
            mode: self.options.mode,
            chosen,
        })
    }

    fn values(&self, generated: &[Generated], generations: &[Generation]) -> BTreeMap<String, f64> {
        let texts: Vec<&str> = generations.iter().map(|generation| generation.completion.as_str()).collect();
        let mean =
            |values: &[f64]| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
        let of = |value: &dyn Fn(&Generated) -> f64| mean(&generated.iter().map(value).collect::<Vec<_>>());
        let lengths: Vec<f64> = self.prompts.iter().map(|prompt| prompt.chosen_length as f64).collect();
        let utilities: Vec<f64> = generations.iter().filter_map(|generation| generation.utility).collect();
        let repetitions: Vec<f64> = texts.iter().filter_map(|text| repetition(text)).collect();
        [
            ("length", of(&|generated| generated.tokens.len() as f64)),
            ("chosen_length", mean(&lengths)),
            ("ended", of(&|generated| f64::from(u8::from(generated.ended)))),
            ("entropy", of(&|generated| generated.entropy)),
            ("distinct_1", distinct(&texts, 1)),
            ("distinct_2", distinct(&texts, 2)),
            ("repetition", mean(&repetitions)),
            ("utility", mean(&utilities)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((format!("eval_generations/{name}"), value?)))
        .collect()
    }

    /// The mean of log π(y)/π_ref(y) over what the policy said, end markers included.
    fn mean_log_ratio(
        &self,
        policy: &Policy<'_>,
        generated: &[Generated],
        end: u32,
    ) -> Result<f64, TrainError> {
        let (ReferenceModel::AdapterOff(reference) | ReferenceModel::Frozen(reference)) = &policy.reference;
        let completions: Vec<Vec<u32>> = generated
            .iter()
            .map(|generated| {
                let marker = Some(end).filter(|_| generated.ended);
                generated.tokens.iter().copied().chain(marker).collect()
            })
            .collect();
        let said: Vec<_> =
            self.prompts.iter().zip(&completions).filter(|(_, tokens)| !tokens.is_empty()).collect();
        let mut sum = 0.0;
        for said in said.chunks(self.at_once) {
            let mut packer = Packer::default();
            for (prompt, completion) in said {
                let id = packer.add_prompt(&prompt.tokens);
                packer.add_completion(id, completion, false);
            }
            let packed = packer.pack()?;
            let own = policy.decoder.log_probs(&packed, Adapter::On)?;
            let others = reference.log_probs(&packed, Adapter::Off)?;
            sum += own.iter().zip(others).map(|(own, other)| own - other).sum::<f64>();
        }
        Ok(sum / said.len().max(1) as f64)
    }
}

fn turns(messages: &[Message], roles: bool) -> String {
    let turn = |message: &Message| {
        if roles { format!("{}: {}", message.role, message.content) } else { message.content.clone() }
    };
    messages.iter().map(turn).collect::<Vec<_>>().join("\n\n")
}
