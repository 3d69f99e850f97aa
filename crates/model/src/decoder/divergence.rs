//! KL divergence of next-token distributions.

use candle_core::{DType, Result, Tensor};
use rayon::prelude::*;

use super::{Adapter, Decoder};
use crate::pack::PackedBatch;

impl Decoder {
    /// Computes KL(π ‖ π_ref) of the distributions of every scored token in nats, over the
    /// whole vocabulary, in the order of [`PackedBatch::scored_sequences`].
    ///
    /// π is this decoder with its adapter on, π_ref is `reference` with its adapter off.
    /// Summed over a completion drawn from π, it estimates the KL divergence of whole completions
    /// without bias, and with less variance than their log-ratio: each token's log-ratio is
    /// replaced by its expectation given the tokens before it (Rao–Blackwell).
    pub fn token_divergences(&self, reference: &Self, batch: &PackedBatch) -> Result<Vec<f64>> {
        let rows = [
            (self, self.scored_rows(batch, Adapter::On)?.0),
            (reference, reference.scored_rows(batch, Adapter::Off)?.0),
        ];
        let mut divergences = Vec::with_capacity(batch.scored.len());
        for chunk in self.head.chunks(batch.scored.len(), batch.scored.len())? {
            let logits = |(decoder, rows): &(&Self, Tensor)| -> Result<Vec<Vec<f32>>> {
                let rows = rows.narrow(0, chunk.start, chunk.len())?;
                decoder.head.logits(&rows)?.to_dtype(DType::F32)?.to_vec2()
            };
            let (policy, reference) = (logits(&rows[0])?, logits(&rows[1])?);
            let pairs = policy.par_iter().zip(&reference);
            divergences.par_extend(pairs.map(|(policy, reference)| divergence(policy, reference)));
        }
        Ok(divergences)
    }
}

/// Returns KL(p ‖ q) in nats of the distributions with these logits.
///
/// It is computed as Σ p·(eᵈ − 1 − d) with d = ln q − ln p, which equals Σ p·(ln p − ln q)
/// since Σ q = Σ p. No term is negative, so rounding cannot make the sum negative. Equal logits
/// give 0.
fn divergence(policy: &[f32], reference: &[f32]) -> f64 {
    let normaliser = |logits: &[f32]| {
        let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        largest + logits.iter().map(|logit| (f64::from(*logit) - largest).exp()).sum::<f64>().ln()
    };
    let (of_policy, of_reference) = (normaliser(policy), normaliser(reference));
    let term = |(policy, reference): (&f32, &f32)| {
        let (log_p, log_q) = (f64::from(*policy) - of_policy, f64::from(*reference) - of_reference);
        let (p, d) = (log_p.exp(), log_q - log_p);
        if p == 0.0 {
            log_q.exp()
        } else if d.abs() < 1.0 {
            // Close distributions: the difference of eᵈ and 1 + d loses no digits.
            p * (d.exp_m1() - d)
        } else {
            log_q.exp() - p - p * d
        }
    };
    policy.iter().zip(reference).map(term).sum()
}

#[cfg(test)]
mod tests {
    use prospect_core::draw::Draw;

    use super::*;
    use crate::{Architecture, Generated, GenerationConfig, Packer, Prompt, Sampling};

    #[test]
    fn divergences_are_those_of_the_definition_and_never_negative() {
        let policy = [0.0, (3.0_f32).ln()];
        let reference = [0.0, 0.0];
        let expected = 0.25 * 0.5_f64.ln() + 0.75 * 1.5_f64.ln();
        assert!((divergence(&policy, &reference) - expected).abs() < 1e-7);
        let logits: Vec<f32> = (0..500).map(|n| (n * n % 97) as f32 / 10.0 - 4.0).collect();
        assert_eq!(divergence(&logits, &logits), 0.0);
        for scale in [1e-7_f32, 1e-4, 1e-2, 1.0, 30.0, 1e4] {
            let draw = Draw::new(3, "logits");
            let noise = |n: usize| (draw.bits(&n.to_string()) % 1000) as f32 / 500.0 - 1.0;
            let moved: Vec<f32> =
                logits.iter().enumerate().map(|(n, logit)| logit + scale * noise(n)).collect();
            for kl in [divergence(&logits, &moved), divergence(&moved, &logits)] {
                assert!(kl >= 0.0 && kl.is_finite(), "{scale}: {kl}");
            }
        }
        let impossible = [0.0, f32::NEG_INFINITY];
        assert!((divergence(&impossible, &reference) - 2.0_f64.ln()).abs() < 1e-7);
        assert_eq!(divergence(&reference, &impossible), f64::INFINITY);
        assert_eq!(divergence(&impossible, &impossible), 0.0);
    }

    /// All completions of up to `length` tokens: they end with token 0 or at `length`.
    fn completions(vocabulary: u32, length: usize) -> Vec<Vec<u32>> {
        let mut open = vec![Vec::new()];
        let mut all = Vec::new();
        for at in 1..=length {
            let longer = open.iter().flat_map(|prefix: &Vec<u32>| {
                (0..vocabulary).map(move |token| [prefix.as_slice(), &[token]].concat())
            });
            let (ended, going): (Vec<_>, Vec<_>) =
                longer.partition(|tokens| at == length || tokens.last() == Some(&0));
            all.extend(ended);
            open = going;
        }
        all
    }

    /// Every completion of a prompt of a tiny vocabulary, with its probability and estimated KL.
    struct Enumeration {
        policy: Decoder,
        completions: Vec<Vec<u32>>,
        probabilities: Vec<f64>,
        log_ratios: Vec<f64>,
        estimates: Vec<f64>,
    }

    const PROMPT: [u32; 3] = [1, 3, 2];
    const LENGTH: usize = 4;

    impl Enumeration {
        fn new() -> Self {
            let architecture = r#"{"vocab_size": 5, "hidden_size": 128, "intermediate_size": 16,
                "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 32}"#;
            let architecture: Architecture = serde_json::from_str(architecture).unwrap();
            let [policy, reference] = [1, 2].map(|seed| Decoder::random(architecture.clone(), seed).unwrap());
            let completions = completions(5, LENGTH);
            let mut packer = Packer::default();
            let prompt = packer.add_prompt(&PROMPT);
            for completion in &completions {
                packer.add_completion(prompt, completion, false);
            }
            let batch = packer.pack().unwrap();
            let log_probs = policy.log_probs(&batch, Adapter::On).unwrap();
            let reference_log_probs = reference.log_probs(&batch, Adapter::Off).unwrap();
            let per_token = policy.token_divergences(&reference, &batch).unwrap();
            assert!(per_token.iter().all(|kl| *kl >= 0.0));
            let of_itself = policy.token_divergences(&policy, &batch).unwrap();
            assert!(of_itself.iter().all(|kl| *kl == 0.0));
            let estimates = batch.sum_by_sequence(&per_token);
            Self {
                policy,
                completions,
                probabilities: log_probs.iter().map(|log_prob| log_prob.exp()).collect(),
                log_ratios: log_probs.iter().zip(&reference_log_probs).map(|(p, q)| p - q).collect(),
                estimates,
            }
        }

        fn mean(&self, values: &[f64]) -> f64 {
            self.probabilities.iter().zip(values).map(|(probability, value)| probability * value).sum()
        }

        /// Variance around the KL divergence.
        fn variance(&self, values: &[f64]) -> f64 {
            let kl = self.mean(&self.log_ratios);
            self.mean(&values.iter().map(|value| (value - kl).powi(2)).collect::<Vec<_>>())
        }
    }

    #[test]
    fn the_mean_over_all_completions_is_their_kl_divergence() {
        let all = Enumeration::new();
        assert!((all.probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-5, "all completions");
        let (exact, estimated) = (all.mean(&all.log_ratios), all.mean(&all.estimates));
        assert!(exact > 0.01 && (estimated / exact - 1.0).abs() < 1e-3, "{exact} {estimated}");
        let [reduced, plain] = [all.variance(&all.estimates), all.variance(&all.log_ratios)];
        assert!(reduced < 0.5 * plain, "the variance is smaller: {reduced} {plain}");
    }

    #[test]
    fn samples_have_the_kl_divergence_on_average() {
        let all = Enumeration::new();
        let config = GenerationConfig {
            sampling: Sampling::Ancestral,
            max_new_tokens: LENGTH,
            eos_token_ids: vec![0],
            seed: 5,
            batch_size: 100,
        };
        let ids: Vec<String> = (0..600).map(|id| id.to_string()).collect();
        let prompts: Vec<_> = ids.iter().map(|id| Prompt { id, tokens: &PROMPT }).collect();
        let drawn = all.policy.generate(&prompts, &config, Adapter::On).unwrap();
        let estimate = |generated: &Generated| {
            let tokens: Vec<u32> = generated.tokens.iter().copied().chain(generated.end).collect();
            all.estimates[all.completions.iter().position(|known| *known == tokens).unwrap()]
        };
        let mean = drawn.iter().map(estimate).sum::<f64>() / drawn.len() as f64;
        let exact = all.mean(&all.log_ratios);
        let error = (all.variance(&all.estimates) / drawn.len() as f64).sqrt();
        assert!((mean - exact).abs() < 4.0 * error && error < 0.2 * exact, "{mean} ± {error}: {exact}");
    }
}
