//! Generation with a key-value cache: each step runs one row per prompt.

use std::borrow::Cow;

use candle_core::{DType, Result, Tensor};
use prospect_core::draw::Draw;
use rayon::prelude::*;

use super::{Adapter, Decoder, gathered::gathered};
use crate::{
    ModelError, Packer,
    architecture::AttentionHeads,
    layers::DecoderBlock,
    ops::{self, AttentionBatch, CachedSequence},
    pack::{PackedBatch, PromptTree},
};

/// Sampling strategy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// Takes the most probable token.
    Greedy,
    /// Ancestral sampling: draws from the model's own distribution, at temperature 1.
    Ancestral,
    /// Nucleus (top-p) sampling (arXiv 1904.09751): draws from the smallest set of most probable
    /// tokens whose total probability is at least `top_p`, after dividing the logits by
    /// `temperature`.
    Nucleus {
        /// Total probability to draw from, in (0, 1].
        top_p: f64,
        /// Divisor of the logits, above 0.
        temperature: f64,
    },
}

/// Generation settings.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationConfig {
    /// Sampling strategy.
    pub sampling: Sampling,
    /// Maximum number of generated tokens.
    pub max_new_tokens: usize,
    /// Tokens that end a completion.
    pub eos_token_ids: Vec<u32>,
    /// Seed of the draws.
    pub seed: u64,
    /// Number of prompts generated at the same time. Affects memory, not the result.
    pub batch_size: usize,
}

/// Prompt to continue.
#[derive(Debug, Clone, Copy)]
pub struct Prompt<'a> {
    /// Id that seeds the prompt's draws: the same id gives the same completion.
    pub id: &'a str,
    /// Token ids, at least one.
    pub tokens: &'a [u32],
}

/// Generated completion of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// Token ids, without the token that ended the completion.
    pub tokens: Vec<u32>,
    /// Token that ended the completion; None if it stopped at `max_new_tokens` or at the model's
    /// last position.
    pub end: Option<u32>,
    /// Mean entropy in nats of the model's distribution at each generated token, the end token
    /// included; 0 without tokens.
    pub entropy: f64,
}

/// State of an unfinished completion.
struct ActivePrompt<'a> {
    id: &'a str,
    /// Index among the prompts.
    index: usize,
    /// Number of tokens in the cache.
    read: usize,
    /// Keys and values of every block, `[key heads, capacity, dim]`.
    cache: Vec<[Tensor; 2]>,
}

impl Decoder {
    /// Returns the bytes of the keys and values of one sequence of `tokens`.
    pub fn cache_bytes(&self, tokens: usize) -> usize {
        self.architecture().cache_bytes(tokens, self.dtype().size_in_bytes())
    }

    /// Generates a completion of each prompt. A draw depends on seed, prompt id and the token's
    /// position in the completion only.
    pub fn generate(
        &self,
        prompts: &[Prompt<'_>],
        config: &GenerationConfig,
        adapter: Adapter,
    ) -> std::result::Result<Vec<Generated>, ModelError> {
        let none = Generated { tokens: Vec::new(), end: None, entropy: 0.0 };
        let mut done = vec![none; prompts.len()];
        let draw = Draw::new(config.seed, "next tokens");
        let batch_size = config.batch_size.max(1);
        for (group, first) in prompts.chunks(batch_size).zip((0..).step_by(batch_size)) {
            let (mut rows, mut logits) = self.read_prompts(group, first, config.max_new_tokens, adapter)?;
            for step in 0..config.max_new_tokens {
                let choices = choose(&logits, &rows, step, config, &draw)?;
                let (mut going, mut next) = (Vec::new(), Vec::new());
                for (row, (token, entropy)) in rows.into_iter().zip(choices) {
                    let generated = &mut done[row.index];
                    generated.entropy += entropy;
                    if config.eos_token_ids.contains(&token) {
                        generated.end = Some(token);
                    } else {
                        generated.tokens.push(token);
                        if row.read < self.architecture().max_positions {
                            going.push(row);
                            next.push(token);
                        }
                    }
                }
                rows = going;
                if rows.is_empty() || step + 1 == config.max_new_tokens {
                    break;
                }
                logits = self.read_tokens(&mut rows, &next, adapter)?;
            }
        }
        for generated in &mut done {
            let chosen = generated.tokens.len() + usize::from(generated.end.is_some());
            generated.entropy /= chosen.max(1) as f64;
        }
        Ok(done)
    }

    /// Runs the prompts, fills their caches and returns the logits after each.
    fn read_prompts<'a>(
        &self,
        prompts: &[Prompt<'a>],
        first: usize,
        max_new_tokens: usize,
        adapter: Adapter,
    ) -> std::result::Result<(Vec<ActivePrompt<'a>>, Tensor), ModelError> {
        let mut packer = Packer::default();
        for prompt in prompts {
            packer.add_prompt(prompt.tokens);
        }
        let batch = packer.pack()?;
        self.check(&batch)?;
        let mut rows: Vec<ActivePrompt<'_>> = prompts
            .iter()
            .zip(first..)
            .map(|(prompt, index)| ActivePrompt {
                id: prompt.id,
                index,
                read: prompt.tokens.len(),
                cache: Vec::with_capacity(self.blocks.len()),
            })
            .collect();
        let ends: Vec<u32> = batch.trees.iter().map(|tree| tree.prompt.end as u32 - 1).collect();
        let x = self.pass(&batch, adapter, |_, attention, [q, k, v]| {
            let heads = attention.heads;
            for (row, tree) in rows.iter_mut().zip(&batch.trees) {
                let capacity = (row.read + max_new_tokens).min(self.architecture().max_positions);
                let keep = |x: &Tensor| -> Result<Tensor> {
                    let kept = Tensor::zeros((heads.key, capacity, heads.dim), x.dtype(), x.device())?;
                    kept.slice_set(&by_head(&x.narrow(0, tree.prompt.start, row.read)?, heads)?, 1, 0)?;
                    Ok(kept)
                };
                row.cache.push([keep(k)?, keep(v)?]);
            }
            ops::attention(q, k, v, attention)
        })?;
        let last = x.index_select(&Tensor::new(ends, x.device())?, 0)?;
        Ok((rows, self.head.logits(&last)?))
    }

    /// Runs one more token of each prompt and returns the logits after it.
    fn read_tokens(&self, rows: &mut [ActivePrompt<'_>], tokens: &[u32], adapter: Adapter) -> Result<Tensor> {
        let batch = PackedBatch {
            tokens: tokens.to_vec(),
            positions: rows.iter().map(|row| row.read as u32).collect(),
            trees: (0..rows.len())
                .map(|row| PromptTree { prompt: row..row + 1, branches: Vec::new() })
                .collect(),
            ..PackedBatch::default()
        };
        let x = self.pass(&batch, adapter, |block, AttentionBatch { heads, .. }, [q, k, v]| {
            let heads = *heads;
            let cached = rows.iter().enumerate().map(|(index, row)| {
                let [keys, values] = &row.cache[block];
                for (kept, new) in [(keys, k), (values, v)] {
                    let new = new.narrow(0, index, 1)?.reshape((heads.key, 1, heads.dim))?;
                    kept.slice_set(&new, 1, row.read)?;
                }
                let last = row.read + 1;
                let first = heads.window.map_or(0, |window| last.saturating_sub(window));
                Ok(CachedSequence { keys, values, seen: first..last })
            });
            ops::attention_to_cache(q, &cached.collect::<Result<Vec<_>>>()?, heads)
        })?;
        for row in rows {
            row.read += 1;
        }
        self.head.logits(&x)
    }

    /// Runs all blocks on the rows of `batch`, with attention computed by `attend`, which receives
    /// the block's index and its attention over the whole batch.
    fn pass(
        &self,
        batch: &PackedBatch,
        adapter: Adapter,
        mut attend: impl FnMut(usize, &AttentionBatch<'_>, [&Tensor; 3]) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let context = self.context(batch, adapter)?;
        let step = |x: Tensor, (index, block): (usize, Result<Cow<'_, DecoderBlock>>)| {
            let block = block?;
            let attention = &context.layer(block.attention.kind).attention;
            Ok(block.forward_with(&x, &context, |qkv| attend(index, attention, qkv))?.0)
        };
        let x = self.embed(&self.indices(batch)?.tokens)?;
        gathered(self.blocks.iter()).enumerate().try_fold(x, step)
    }
}

/// Returns the next token of each prompt and the entropy of its distribution.
fn choose(
    logits: &Tensor,
    rows: &[ActivePrompt<'_>],
    step: usize,
    config: &GenerationConfig,
    draw: &Draw,
) -> Result<Vec<(u32, f64)>> {
    let logits = logits.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    let chosen = |(logits, row): (&Vec<f32>, &ActivePrompt<'_>)| {
        let probabilities = softmax(logits, 1.0);
        // 53 bits of the draw as a number in [0, 1).
        let uniform = || {
            let bits = draw.bits(&format!("{} {step}", row.id)) >> 11;
            bits as f64 / (1_u64 << 53) as f64
        };
        let token = match config.sampling {
            Sampling::Greedy => argmax(logits),
            Sampling::Ancestral => ancestral(&probabilities, uniform()),
            Sampling::Nucleus { top_p, temperature } => {
                nucleus(&softmax(logits, temperature), top_p, uniform())
            }
        };
        (token, entropy(&probabilities))
    };
    Ok(logits.par_iter().zip(rows).map(chosen).collect())
}

/// Reshapes `[rows, key heads·dim]` to `[key heads, rows, dim]`.
fn by_head(x: &Tensor, heads: AttentionHeads) -> Result<Tensor> {
    x.reshape((x.dim(0)?, heads.key, heads.dim))?.transpose(0, 1)?.contiguous()
}

/// Returns the token with the largest logit, the first of several.
fn argmax(logits: &[f32]) -> u32 {
    let better = |best: (u32, f32), next: (u32, f32)| if next.1 > best.1 { next } else { best };
    (0..).zip(logits.iter().copied()).fold((0, f32::NEG_INFINITY), better).0
}

/// Computes the softmax of logits divided by `temperature`.
fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponential = |logit: &f32| (f64::from(logit - largest) / temperature).exp();
    let mut weights: Vec<f64> = logits.iter().map(exponential).collect();
    let sum: f64 = weights.iter().sum();
    for weight in &mut weights {
        *weight /= sum;
    }
    weights
}

/// Computes −Σ p·ln p.
fn entropy(probabilities: &[f64]) -> f64 {
    let term = |p: &f64| if *p > 0.0 { -p * p.ln() } else { 0.0 };
    probabilities.iter().map(term).sum()
}

/// Returns the token at quantile `uniform`, in [0, 1), of tokens in the order of their ids.
fn ancestral(probabilities: &[f64], uniform: f64) -> u32 {
    let mut left = uniform;
    for (token, p) in (0..).zip(probabilities) {
        if left < *p {
            return token;
        }
        left -= p;
    }
    // Rounding may leave a remainder after the last token.
    (0..).zip(probabilities).filter(|(_, p)| **p > 0.0).last().map_or(0, |(token, _)| token)
}

/// Returns the token at quantile `uniform`, in [0, 1), of the smallest set of most probable tokens
/// whose total probability is at least `top_p`.
fn nucleus(probabilities: &[f64], top_p: f64, uniform: f64) -> u32 {
    let mut ranked: Vec<(u32, f64)> = (0..).zip(probabilities.iter().copied()).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut share = 0.0;
    let inside = ranked.iter().take_while(|(_, p)| {
        let before = share;
        share += p;
        before < top_p
    });
    let size = inside.count();
    ranked.truncate(size);
    let mut left = uniform * ranked.iter().map(|(_, p)| p).sum::<f64>();
    for (token, p) in &ranked {
        if left < *p {
            return *token;
        }
        left -= p;
    }
    // Rounding may leave a remainder after the last token.
    ranked.last().map_or(0, |(token, _)| *token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nucleus_is_the_smallest_likely_set() {
        let probabilities = [0.1, 0.4, 0.3, 0.2];
        let drawn = |top_p| -> Vec<u32> {
            let mut drawn: Vec<u32> =
                (0..100).map(|i| nucleus(&probabilities, top_p, f64::from(i) / 100.0)).collect();
            drawn.dedup();
            drawn
        };
        assert_eq!(drawn(0.05), [1]);
        assert_eq!(drawn(0.69), [1, 2]);
        assert_eq!(drawn(0.71), [1, 2, 3]);
        assert_eq!(drawn(1.0), [1, 2, 3, 0]);
        let share = (0..1000).filter(|i| nucleus(&probabilities, 0.69, f64::from(*i) / 1000.0) == 1).count();
        assert!((570..=572).contains(&share), "4 of 7: {share}");
    }

    #[test]
    fn ancestral_draws_have_the_probabilities() {
        let probabilities = [0.1, 0.4, 0.0, 0.3, 0.2, 0.0];
        let count =
            |token| (0..1000).filter(|i| ancestral(&probabilities, f64::from(*i) / 1000.0) == token).count();
        let counts = [0, 1, 2, 3, 4, 5].map(count);
        for (count, expected) in counts.into_iter().zip([100, 400, 0, 300, 200, 0]) {
            assert!(count.abs_diff(expected) <= 1, "{counts:?}");
        }
        assert_eq!(ancestral(&[0.5, 0.4, 0.0], 0.999), 1, "a remainder after the last token");
    }

    #[test]
    fn temperature_sharpens_and_entropy_is_in_nats() {
        let logits = [0.0, 0.0, (2.0_f32).ln()];
        assert!((softmax(&logits, 1.0)[2] - 0.5).abs() < 1e-7);
        assert!((softmax(&logits, 0.5)[2] - 2.0 / 3.0).abs() < 1e-7);
        assert!((entropy(&[0.25; 4]) - 4.0_f64.ln()).abs() < 1e-12);
        assert!(entropy(&[1.0, 0.0]).abs() < 1e-12);
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), 1);
    }
}
