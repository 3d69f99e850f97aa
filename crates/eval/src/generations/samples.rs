//! Samples of the policy's own distribution, and their KL divergence from the reference.

use std::collections::BTreeMap;

use prospect_core::sample::mean;
use prospect_model::Sampling;
use prospect_runs::PolicySample;
use prospect_train::{Policy, ReferenceCache, TrainError};

use super::{HeldOutPrompts, Utility};

/// Samples of a policy after one step.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicySamples {
    /// Means, with the prefix `eval_samples/`.
    pub values: BTreeMap<String, f64>,
    /// One completion per prompt.
    pub samples: Vec<PolicySample>,
}

impl HeldOutPrompts<'_> {
    /// Draws one completion per prompt from the policy at temperature 1, with its KL divergence
    /// from the reference.
    ///
    /// The KL divergence of a completion is the sum over its tokens, the end token included, of
    /// the exact divergence of the next-token distributions. It is never negative and not clamped.
    /// The mean over prompts estimates KL(π ‖ π_ref) of completions, up to the token limit.
    /// Draws depend on `seed` and the prompt only, so all steps and all policies share them. Before
    /// the first step the samples are those of the reference, which runs of one start and seed share
    /// through `cache`.
    pub fn sample(
        &self,
        policy: &Policy<'_>,
        step: u64,
        cache: &ReferenceCache,
        seed: u64,
        utility: Option<&Utility<'_>>,
    ) -> Result<PolicySamples, TrainError> {
        let at_start = step == 0;
        let generated = self.complete(policy, at_start.then_some(cache), seed, Sampling::Ancestral)?;
        let (divergences, log_ratios) = if at_start {
            (vec![None; generated.len()], vec![None; generated.len()])
        } else {
            let reference = policy.reference.decoder();
            let divergences = self.by_completion(&generated, |packed| {
                Ok(packed.sum_by_sequence(&policy.decoder.token_divergences(reference, packed)?))
            })?;
            (divergences, self.log_ratios(policy, &generated)?)
        };
        let mut samples = Vec::with_capacity(generated.len());
        for (((prompt, generated), kl), log_ratio) in
            self.prompts.iter().zip(&generated).zip(divergences).zip(log_ratios)
        {
            let completion = self.tokenizer.decode(&generated.tokens, false)?.trim().to_owned();
            samples.push(PolicySample {
                step,
                prompt_id: prompt.prompt_id.clone(),
                utility: utility.and_then(|utility| utility(&prompt.prompt, &completion)),
                completion,
                tokens: generated.tokens.len(),
                ended: generated.end.is_some(),
                kl: kl.unwrap_or(0.0),
                log_ratio: log_ratio.unwrap_or(0.0),
            });
        }
        Ok(PolicySamples { values: values(&samples), samples })
    }
}

fn values(samples: &[PolicySample]) -> BTreeMap<String, f64> {
    let over_samples = |value: &dyn Fn(&PolicySample) -> f64| mean(samples.iter().map(value));
    [
        ("kl", over_samples(&|sample| sample.kl)),
        ("log_ratio", over_samples(&|sample| sample.log_ratio)),
        ("length", over_samples(&|sample| sample.tokens as f64)),
        ("ended", over_samples(&|sample| f64::from(u8::from(sample.ended)))),
        ("utility", mean(samples.iter().filter_map(|sample| sample.utility))),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((format!("eval_samples/{name}"), value?)))
    .collect()
}
