//! Continuing prompts token by token: keys and values of what has been read are kept, so that each step runs one row
//! a prompt.

use candle_core::{D, DType, Result, Tensor};
use prospect_core::draw::Draw;

use crate::{
    Adapter, Decoder, ModelError, Packer,
    layers::Block,
    ops::{self, Heads},
    pack::{PackedBatch, Tree},
};

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// The likeliest token.
    Greedy,
    /// One of the likeliest tokens that together have a share of at least `top_p` (arXiv 1904.09751), by their
    /// probabilities after the logits were divided by `temperature`.
    Nucleus {
        /// Share of the probability to draw from, in (0, 1].
        top_p: f64,
        /// What logits are divided by, above 0.
        temperature: f64,
    },
}

/// How to continue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GenerationConfig {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Tokens to stop after.
    pub max_new_tokens: usize,
    /// The token that ends a completion.
    pub end: u32,
    /// Seed of the draws.
    pub seed: u64,
    /// Prompts in work at once. What is said does not depend on it, memory does.
    pub at_once: usize,
}

/// A prompt to continue.
#[derive(Debug, Clone, Copy)]
pub struct Prompt<'a> {
    /// What its draws are for: the same id is continued the same way.
    pub id: &'a str,
    /// At least one token.
    pub tokens: &'a [u32],
}

/// A prompt's completion.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The tokens, without the end marker.
    pub tokens: Vec<u32>,
    /// Whether the end marker came; otherwise the completion stopped at `max_new_tokens`, or where the model's positions
    /// end.
    pub ended: bool,
    /// Mean entropy of the model's distribution at each chosen token, the end marker included, in nats; 0 without tokens.
    pub entropy: f64,
}

/// A prompt in work.
struct Row<'a> {
    id: &'a str,
    /// Its place among the prompts.
    index: usize,
    /// Tokens that the model has read.
    read: usize,
    /// Keys and values of every block, `[key heads, room, dim]`.
    cache: Vec<[Tensor; 2]>,
}

impl Decoder {
    /// Continues all prompts, several at a time. A draw is a function of seed, prompt id and the token's place only.
    pub fn generate(
        &self,
        prompts: &[Prompt<'_>],
        how: &GenerationConfig,
        adapter: Adapter,
    ) -> std::result::Result<Vec<Generated>, ModelError> {
        let none = Generated { tokens: Vec::new(), ended: false, entropy: 0.0 };
        let mut done = vec![none; prompts.len()];
        let draw = Draw::new(how.seed, "next tokens");
        let at_once = how.at_once.max(1);
        for (group, first) in prompts.chunks(at_once).zip((0..).step_by(at_once)) {
            let (mut rows, mut logits) = self.read_prompts(group, first, how.max_new_tokens, adapter)?;
            for place in 0..how.max_new_tokens {
                let choices = choose(&logits, &rows, place, how, &draw)?;
                let (mut going, mut next) = (Vec::new(), Vec::new());
                for (row, (token, entropy)) in rows.into_iter().zip(choices) {
                    let generated = &mut done[row.index];
                    generated.entropy += entropy;
                    generated.ended = token == how.end;
                    if !generated.ended {
                        generated.tokens.push(token);
                        if row.read < self.architecture().longest() {
                            going.push(row);
                            next.push(token);
                        }
                    }
                }
                rows = going;
                if rows.is_empty() || place + 1 == how.max_new_tokens {
                    break;
                }
                logits = self.read_tokens(&mut rows, &next, adapter)?;
            }
        }
        for generated in &mut done {
            let chosen = generated.tokens.len() + usize::from(generated.ended);
            generated.entropy /= chosen.max(1) as f64;
        }
        Ok(done)
    }

    /// Runs the prompts and gives the logits after each.
    fn read_prompts<'a>(
        &self,
        prompts: &[Prompt<'a>],
        first: usize,
        max_new_tokens: usize,
        adapter: Adapter,
    ) -> std::result::Result<(Vec<Row<'a>>, Tensor), ModelError> {
        let mut packer = Packer::default();
        for prompt in prompts {
            packer.prompt(prompt.tokens);
        }
        let batch = packer.pack()?;
        self.check(&batch)?;
        let mut rows: Vec<Row<'_>> = prompts
            .iter()
            .zip(first..)
            .map(|(prompt, index)| Row {
                id: prompt.id,
                index,
                read: prompt.tokens.len(),
                cache: Vec::with_capacity(self.blocks.len()),
            })
            .collect();
        let ends: Vec<u32> = batch.trees.iter().map(|tree| tree.prompt.end as u32 - 1).collect();
        let x = self.pass(&batch, adapter, |_, heads, [q, k, v]| {
            for (row, tree) in rows.iter_mut().zip(&batch.trees) {
                let room = (row.read + max_new_tokens).min(self.architecture().longest());
                let keep = |x: &Tensor| -> Result<Tensor> {
                    let kept = Tensor::zeros((heads.key, room, heads.dim), x.dtype(), x.device())?;
                    kept.slice_set(&by_head(&x.narrow(0, tree.prompt.start, row.read)?, heads)?, 1, 0)?;
                    Ok(kept)
                };
                row.cache.push([keep(k)?, keep(v)?]);
            }
            ops::attention(q, k, v, &batch.trees, heads)
        })?;
        let last = x.index_select(&Tensor::new(ends, x.device())?, 0)?;
        Ok((rows, self.head.logits(&last)?))
    }

    /// Runs one more token of each row and gives the logits after it.
    fn read_tokens(&self, rows: &mut [Row<'_>], tokens: &[u32], adapter: Adapter) -> Result<Tensor> {
        let batch = PackedBatch {
            tokens: tokens.to_vec(),
            positions: rows.iter().map(|row| row.read as u32).collect(),
            trees: (0..rows.len()).map(|row| Tree { prompt: row..row + 1, branches: Vec::new() }).collect(),
            ..PackedBatch::default()
        };
        let x = self.pass(&batch, adapter, |block, heads, [q, k, v]| {
            let attended = rows.iter().enumerate().map(|(index, row)| {
                let [keys, values] = &row.cache[block];
                for (kept, new) in [(keys, k), (values, v)] {
                    kept.slice_set(&by_head(&new.narrow(0, index, 1)?, heads)?, 1, row.read)?;
                }
                let seen = [keys.narrow(1, 0, row.read + 1)?, values.narrow(1, 0, row.read + 1)?];
                look_back(&q.narrow(0, index, 1)?, &seen, heads)
            });
            Tensor::cat(&attended.collect::<Result<Vec<_>>>()?, 0)
        })?;
        for row in rows {
            row.read += 1;
        }
        self.head.logits(&x)
    }

    /// Runs all blocks on the rows of `batch`; `attend` gets the number of the block.
    fn pass(
        &self,
        batch: &PackedBatch,
        adapter: Adapter,
        mut attend: impl FnMut(usize, Heads, [&Tensor; 3]) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let context = self.context(batch, adapter)?;
        let step = |x: Tensor, (index, block): (usize, &Block)| {
            Ok(block.forward_with(&x, &context, |qkv| attend(index, context.heads, qkv))?.0)
        };
        self.blocks.iter().enumerate().try_fold(self.embed(batch)?, step)
    }
}

/// For each row, the next token and the entropy of its distribution.
fn choose(
    logits: &Tensor,
    rows: &[Row<'_>],
    place: usize,
    how: &GenerationConfig,
    draw: &Draw,
) -> Result<Vec<(u32, f64)>> {
    let logits = logits.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    let chosen = |(logits, row): (&Vec<f32>, &Row<'_>)| {
        let token = match how.sampling {
            Sampling::Greedy => likeliest(logits),
            Sampling::Nucleus { top_p, temperature } => {
                // 53 bits of a draw are a number in [0, 1).
                let bits = draw.bits(&format!("{} {place}", row.id)) >> 11;
                nucleus(&softmax(logits, temperature), top_p, bits as f64 / (1_u64 << 53) as f64)
            }
        };
        (token, entropy(&softmax(logits, 1.0)))
    };
    Ok(logits.iter().zip(rows).map(chosen).collect())
}

/// `[rows, key heads·dim]` as `[key heads, rows, dim]`.
fn by_head(x: &Tensor, heads: Heads) -> Result<Tensor> {
    x.reshape((x.dim(0)?, heads.key, heads.dim))?.transpose(0, 1)?.contiguous()
}

/// Attention of one query row `[1, query heads·dim]` to the keys and values `[key heads, seen, dim]`.
fn look_back(q: &Tensor, [keys, values]: &[Tensor; 2], heads: Heads) -> Result<Tensor> {
    let q = q.reshape((heads.key, heads.query / heads.key, heads.dim))?;
    let scores = (q.matmul(&keys.t()?)? * (heads.dim as f64).sqrt().recip())?;
    let weights = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
    let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
    weights.matmul(values)?.reshape((1, heads.query * heads.dim))
}

/// The token of largest logit; of equal ones the first.
fn likeliest(logits: &[f32]) -> u32 {
    let better = |best: (u32, f32), next: (u32, f32)| if next.1 > best.1 { next } else { best };
    (0..).zip(logits.iter().copied()).fold((0, f32::NEG_INFINITY), better).0
}

/// Probabilities of logits that are divided by `temperature`.
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

/// −Σ p·ln p.
fn entropy(probabilities: &[f64]) -> f64 {
    let term = |p: &f64| if *p > 0.0 { -p * p.ln() } else { 0.0 };
    probabilities.iter().map(term).sum()
}

/// The token at `place`, from 0 to 1, of the smallest set of likeliest tokens that has a share of at least `top_p`.
fn nucleus(probabilities: &[f64], top_p: f64, place: f64) -> u32 {
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
    let mut left = place * ranked.iter().map(|(_, p)| p).sum::<f64>();
    for (token, p) in &ranked {
        if left < *p {
            return *token;
        }
        left -= p;
    }
    // Rounding may leave a rest behind the last.
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
    fn temperature_sharpens_and_entropy_is_in_nats() {
        let logits = [0.0, 0.0, (2.0_f32).ln()];
        assert!((softmax(&logits, 1.0)[2] - 0.5).abs() < 1e-7);
        assert!((softmax(&logits, 0.5)[2] - 2.0 / 3.0).abs() < 1e-7);
        assert!((entropy(&[0.25; 4]) - 4.0_f64.ln()).abs() < 1e-12);
        assert!(entropy(&[1.0, 0.0]).abs() < 1e-12);
        assert_eq!(likeliest(&[1.0, 3.0, 3.0]), 1);
    }
}
