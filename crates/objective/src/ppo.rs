//! Offline PPO: one step of clipped policy optimisation on labelled completions (arXiv 2402.01306,
//! section 3.3; clipping after arXiv 1707.06347, equation 7).

use serde::Serialize;

use crate::{BatchLoss, LogProb, Metrics, Unpaired, kto::classes};

/// Settings of offline PPO.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ppo {
    /// Bounds [low, high] of the ratio π/π_ref of a token, beyond which its advantage has no
    /// further effect.
    pub clip_ratio: [f64; 2],
    /// Weight of the KL penalty: the mean of log π_ref − log π over tokens.
    pub kl_coef: f64,
    /// γ·λ of generalised advantage estimation: a token k places before the end of a completion has
    /// the advantage ±(γ·λ)^k before whitening. With 1, all tokens have that of the completion.
    pub discount: f64,
}

impl Default for Ppo {
    /// Settings of the KTO paper's runs: γ = 0.99 and λ = 0.95.
    fn default() -> Self {
        Self { clip_ratio: [0.25, 4.0], kl_coef: 0.1, discount: 0.9405 }
    }
}

/// Keeps a batch with equal advantages from dividing by 0.
const WHITENING_EPSILON: f64 = 1e-8;

/// Mean and scale that whiten the advantages of a batch's tokens.
///
/// They depend on labels and lengths only, so they are known before the model runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Whitening {
    mean: f64,
    scale: f64,
}

/// Clipped surrogate of one completion, to be maximised.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Surrogate {
    /// Sum over tokens of min(q·A, clip(q)·A) − kl_coef·(log π_ref − log π), where q = π/π_ref.
    pub value: f64,
    /// Derivative of the value with respect to log π of each token.
    pub slopes: Vec<f64>,
    /// One flag per token: within the bounds, or outside where clipping has no effect.
    pub unclipped: Vec<bool>,
}

impl Ppo {
    /// Computes the whitening of a batch, given label and number of tokens of each completion. The
    /// variance is unbiased, as in HALOs.
    pub fn whitening(&self, completions: impl IntoIterator<Item = (bool, usize)>) -> Whitening {
        let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for (desirable, tokens) in completions {
            count += tokens as f64;
            for advantage in self.advantages(desirable, tokens) {
                sum += advantage;
                squares += advantage * advantage;
            }
        }
        let mean = sum / f64::max(count, 1.0);
        let variance = (squares - sum * mean) / f64::max(count - 1.0, 1.0);
        Whitening { mean, scale: (variance.max(0.0) + WHITENING_EPSILON).sqrt().recip() }
    }

    /// Advantages of a completion's tokens before whitening. They are those of generalised
    /// advantage estimation with a critic of 0 and a reward of ±1 on the last token.
    fn advantages(&self, desirable: bool, tokens: usize) -> impl Iterator<Item = f64> {
        let (reward, discount) = (if desirable { 1.0 } else { -1.0 }, self.discount);
        (0..tokens).rev().map(move |rest| reward * discount.powi(i32::try_from(rest).unwrap_or(i32::MAX)))
    }

    /// Computes the surrogate of a completion from the log-ratios log π/π_ref of its tokens.
    pub fn surrogate(&self, whitening: Whitening, desirable: bool, log_ratios: &[f64]) -> Surrogate {
        let [low, high] = self.clip_ratio;
        let mut surrogate = Surrogate { value: 0.0, slopes: Vec::new(), unclipped: Vec::new() };
        for (log_ratio, advantage) in log_ratios.iter().zip(self.advantages(desirable, log_ratios.len())) {
            let advantage = whitening.scale * (advantage - whitening.mean);
            let ratio = log_ratio.exp();
            let (free, clipped) = (ratio * advantage, ratio.clamp(low, high) * advantage);
            let is_free = free <= clipped;
            surrogate.value += free.min(clipped) + self.kl_coef * log_ratio;
            surrogate.slopes.push(if is_free { free } else { 0.0 } + self.kl_coef);
            surrogate.unclipped.push(is_free);
        }
        surrogate
    }
}

/// Offline PPO: the sum over completions of −w·surrogate, divided by the number of tokens in the
/// batch.
///
/// Desirable completions have the reward 1, undesirable ones −1, and π_ref stands for the policy
/// that sampled them. There is no critic. The gradient has one entry per completion: the derivative
/// with respect to its surrogate, to be multiplied by [`Surrogate::slopes`].
pub fn ppo(batch: &[Unpaired], surrogates: &[f64]) -> BatchLoss {
    let tokens = batch.iter().map(|example| example.log_prob.tokens).sum::<usize>().max(1) as f64;
    let total: f64 =
        batch.iter().zip(surrogates).map(|(example, surrogate)| example.weight * surrogate).sum();
    let (desirable, undesirable) = classes(batch);
    BatchLoss {
        loss: -total / tokens,
        gradient: batch.iter().map(|example| -example.weight / tokens).collect(),
        metrics: Metrics::from_classes(LogProb::ratio, &desirable, &undesirable),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::math::finite_differences;

    /// Tokens' log-ratios by completion, with labels.
    type Rows = Vec<(Vec<f64>, bool)>;

    /// Loss, and its gradient with respect to log π of every token.
    fn evaluate(options: &Ppo, rows: &Rows) -> (f64, Vec<f64>) {
        let whitening = options.whitening(rows.iter().map(|(tokens, desirable)| (*desirable, tokens.len())));
        let surrogates: Vec<_> =
            rows.iter().map(|(ratios, desirable)| options.surrogate(whitening, *desirable, ratios)).collect();
        let batch: Vec<_> = rows
            .iter()
            .map(|(ratios, desirable)| {
                let (policy, tokens) = (ratios.iter().sum(), ratios.len());
                let log_prob = LogProb { policy, reference: 0.0, tokens };
                Unpaired { log_prob, desirable: *desirable, weight: 1.0 }
            })
            .collect();
        let values: Vec<f64> = surrogates.iter().map(|surrogate| surrogate.value).collect();
        let evaluated = ppo(&batch, &values);
        let slopes = surrogates.iter().zip(&evaluated.gradient);
        let gradient = slopes.flat_map(|(surrogate, gradient)| {
            surrogate.slopes.iter().map(|slope| slope * gradient).collect::<Vec<_>>()
        });
        (evaluated.loss, gradient.collect())
    }

    #[test]
    fn golden_values() {
        // By hand: with one token each and no discount, whitened advantages are ±√½ (unbiased).
        let options = Ppo { kl_coef: 0.0, discount: 1.0, ..Ppo::default() };
        let advantage = (2.0_f64 + 1e-8).sqrt().recip();
        let rows =
            |desirable: f64, undesirable: f64| vec![(vec![desirable], true), (vec![undesirable], false)];
        // Ratios of 2 and ½ are inside [¼, 4].
        let (loss, gradient) = evaluate(&options, &rows(2.0_f64.ln(), 0.5_f64.ln()));
        assert!((loss + advantage * (2.0 - 0.5) / 2.0).abs() < 1e-12, "{loss}");
        assert!((gradient[0] + advantage).abs() < 1e-12 && (gradient[1] - advantage / 4.0).abs() < 1e-12);
        // Ratios of 8 and ⅛ have moved far enough in the right direction.
        let (loss, gradient) = evaluate(&options, &rows(8.0_f64.ln(), 0.125_f64.ln()));
        assert!((loss + advantage * (4.0 - 0.25) / 2.0).abs() < 1e-12, "{loss}");
        assert_eq!(gradient, [0.0, 0.0]);
        // In the wrong direction, nothing is clipped.
        let (loss, gradient) = evaluate(&options, &rows(0.125_f64.ln(), 8.0_f64.ln()));
        assert!((loss - advantage * (8.0 - 0.125) / 2.0).abs() < 1e-12, "{loss}");
        assert!(
            (gradient[0] + advantage / 16.0).abs() < 1e-12 && (gradient[1] - 4.0 * advantage).abs() < 1e-12
        );
        // The penalty pulls every token towards the reference.
        let penalised = Ppo { kl_coef: 0.1, ..options };
        let (loss, gradient) = evaluate(&penalised, &rows(8.0_f64.ln(), 0.125_f64.ln()));
        assert!((loss + advantage * (4.0 - 0.25) / 2.0).abs() < 1e-12, "log-ratios cancel: {loss}");
        assert_eq!(gradient, [-0.05, -0.05]);
    }

    #[test]
    fn early_tokens_have_less_advantage() {
        let options = Ppo { kl_coef: 0.0, discount: 0.5, ..Ppo::default() };
        let (_, gradient) = evaluate(&options, &vec![(vec![0.0; 3], true), (vec![0.0; 3], false)]);
        // The mean is 0, so whitening only scales.
        assert!((gradient[0] / gradient[2] - 0.25).abs() < 1e-12);
        assert!((gradient[1] / gradient[2] - 0.5).abs() < 1e-12);
        assert!((gradient[3] + gradient[0]).abs() < 1e-15 && gradient[2] < 0.0);
    }

    #[test]
    fn one_class_without_discount_has_no_advantage() {
        let options = Ppo { kl_coef: 0.0, discount: 1.0, ..Ppo::default() };
        let (loss, gradient) = evaluate(&options, &vec![(vec![0.3, 0.1], true), (vec![-0.4], true)]);
        assert_eq!((loss, gradient), (0.0, vec![0.0; 3]));
    }

    #[test]
    fn at_the_start_the_loss_is_that_of_the_whitened_mean() {
        // All ratios are 1, so the loss is −mean(A) = 0.
        let rows = vec![(vec![0.0; 7], true), (vec![0.0; 3], false), (vec![0.0; 2], false)];
        assert!(evaluate(&Ppo::default(), &rows).0.abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn gradients_are_derivatives(
            rows in prop::collection::vec((prop::collection::vec(-3.0..3.0f64, 1..6), any::<bool>()), 1..6),
            (low, high) in (0.1..0.9f64, 1.1..5.0f64),
            (kl_coef, discount) in (0.0..0.5f64, 0.3..1.0f64),
        ) {
            let options = Ppo { clip_ratio: [low, high], kl_coef, discount };
            let at: Vec<f64> = rows.iter().flat_map(|row| row.0.clone()).collect();
            // The surrogate has a kink at each bound.
            prop_assume!(at.iter().all(|ratio| (ratio.exp() - low).abs().min((ratio.exp() - high).abs()) > 1e-3));
            let rebuilt = |ratios: &[f64]| -> Rows {
                let mut rest = ratios.iter().copied();
                rows.iter().map(|(tokens, desirable)| (rest.by_ref().take(tokens.len()).collect(), *desirable)).collect()
            };
            let numeric = finite_differences(&at, |ratios| evaluate(&options, &rebuilt(ratios)).0);
            for (gradient, numeric) in evaluate(&options, &rows).1.iter().zip(numeric) {
                prop_assert!((gradient - numeric).abs() < 1e-6 * (1.0 + gradient.abs()), "{} {}", gradient, numeric);
            }
        }
    }
}
