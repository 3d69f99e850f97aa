//! Completions of the reference, cached like its log-probs.
//!
//! Every run evaluates its policy before the first step, when the policy is the reference. Runs of
//! one start therefore generate the same texts.

use prospect_model::{Adapter, Generated, GenerationConfig, Prompt, Sampling};

use super::{CacheKey, ReferenceCache, ReferenceModel};
use crate::TrainError;

impl ReferenceCache {
    /// Returns completions of `prompts` by `reference`, called `name`; generates missing ones.
    ///
    /// Sampled completions depend on the seed and on the ids of the prompts, greedy ones do not. On
    /// a GPU, where results depend on the other prompts of a pass, all prompts are one entry.
    pub fn completions(
        &self,
        name: &str,
        reference: &ReferenceModel<'_>,
        prompts: &[Prompt<'_>],
        config: &GenerationConfig,
    ) -> Result<Vec<Generated>, TrainError> {
        let (shard, decoder) = (self.shard(name)?, reference.decoder());
        let generate = |prompts: &[Prompt<'_>]| -> Result<Vec<Vec<f64>>, TrainError> {
            let generated = decoder.generate(prompts, config, Adapter::Off)?;
            Ok(generated.iter().map(to_values).collect())
        };
        let values = if decoder.rows_are_independent() {
            let keys: Vec<_> = prompts.iter().map(|prompt| key(name, &[*prompt], config, 1)).collect();
            shard.get_or_compute(&keys, |missing| {
                generate(&missing.iter().map(|index| prompts[*index]).collect::<Vec<_>>())
            })?
        } else {
            let key = key(name, prompts, config, config.batch_size);
            shard.get_or_compute(&[key], |_| Ok(vec![generate(prompts)?.concat()]))?
        };
        Ok(from_values(&values.concat()))
    }
}

/// Returns the key of completions of `prompts`, generated `batch_size` at a time.
fn key(name: &str, prompts: &[Prompt<'_>], config: &GenerationConfig, batch_size: usize) -> CacheKey {
    let GenerationConfig { sampling, max_new_tokens, eos_token_ids, seed, batch_size: _ } = config;
    let mut hasher = blake3::Hasher::new_derive_key("prospect 2026 completions of the reference v1");
    let mut bytes = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    };
    let tokens = |tokens: &[u32]| tokens.iter().flat_map(|token| token.to_le_bytes()).collect::<Vec<_>>();
    bytes(name.as_bytes());
    let is_seeded = match sampling {
        Sampling::Greedy => {
            bytes(b"greedy");
            false
        }
        Sampling::Ancestral => {
            bytes(b"ancestral");
            true
        }
        Sampling::Nucleus { top_p, temperature } => {
            bytes(b"nucleus");
            bytes(&top_p.to_le_bytes());
            bytes(&temperature.to_le_bytes());
            true
        }
    };
    bytes(&(*max_new_tokens as u64).to_le_bytes());
    bytes(&(batch_size as u64).to_le_bytes());
    bytes(&tokens(eos_token_ids));
    if is_seeded {
        bytes(&seed.to_le_bytes());
    }
    for prompt in prompts {
        if is_seeded {
            bytes(prompt.id.as_bytes());
        }
        bytes(&tokens(prompt.tokens));
    }
    *hasher.finalize().as_bytes()
}

/// Writes a completion as numbers: its length, the entropy, the end token or −1, and its tokens.
fn to_values(generated: &Generated) -> Vec<f64> {
    let end = generated.end.map_or(-1.0, f64::from);
    let start = [generated.tokens.len() as f64, generated.entropy, end];
    start.into_iter().chain(generated.tokens.iter().copied().map(f64::from)).collect()
}

/// Inverse of [`to_values`], for several completions.
fn from_values(mut values: &[f64]) -> Vec<Generated> {
    let mut all = Vec::new();
    while let Some((&[length, entropy, end], rest)) = values.split_first_chunk() {
        let (tokens, rest) = rest.split_at(rest.len().min(length as usize));
        let tokens = tokens.iter().map(|token| *token as u32).collect();
        all.push(Generated { tokens, end: (end >= 0.0).then_some(end as u32), entropy });
        values = rest;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(sampling: Sampling, seed: u64) -> GenerationConfig {
        GenerationConfig { sampling, max_new_tokens: 4, eos_token_ids: vec![0], seed, batch_size: 8 }
    }

    #[test]
    fn several_completions_are_read_as_they_were_written() {
        let completions = [
            Generated { tokens: vec![3, u32::MAX, 0], end: Some(7), entropy: 1.0 / 3.0 },
            Generated { tokens: Vec::new(), end: Some(0), entropy: 0.0 },
            Generated { tokens: vec![5], end: None, entropy: 2.5 },
        ];
        let values: Vec<f64> = completions.iter().flat_map(to_values).collect();
        assert_eq!(from_values(&values), completions);
    }

    #[test]
    fn keys_have_everything_that_completions_depend_on() {
        let one = Prompt { id: "a", tokens: &[1, 2] };
        let nucleus = Sampling::Nucleus { top_p: 0.95, temperature: 0.7 };
        let greedy = |name, prompt, seed| key(name, &[prompt], &config(Sampling::Greedy, seed), 1);
        let same = greedy("r", one, 0);
        assert_eq!(same, greedy("r", Prompt { id: "b", ..one }, 9), "nothing is drawn");
        let different = [
            greedy("s", one, 0),
            greedy("r", Prompt { id: "a", tokens: &[1, 3] }, 0),
            key("r", &[one], &config(nucleus, 0), 1),
            key("r", &[one], &config(nucleus, 1), 1),
            key("r", &[Prompt { id: "b", ..one }], &config(nucleus, 0), 1),
            key("r", &[one], &config(Sampling::Ancestral, 0), 1),
            key("r", &[one], &GenerationConfig { max_new_tokens: 5, ..config(Sampling::Greedy, 0) }, 1),
            key("r", &[one], &GenerationConfig { eos_token_ids: vec![2], ..config(Sampling::Greedy, 0) }, 1),
            key("r", &[one, one], &config(Sampling::Greedy, 0), 8),
            key("r", &[one, one], &config(Sampling::Greedy, 0), 4),
        ];
        for (index, key) in different.iter().enumerate() {
            assert!(*key != same && !different[..index].contains(key), "{index}");
        }
    }
}
