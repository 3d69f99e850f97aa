//! Kahneman-Tversky optimisation (arXiv 2402.01306, equations 7 and 8).

use crate::{Evaluated, LogProb, Metrics, math::sigmoid, metrics::mean};

/// Settings of KTO.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kto {
    /// β: how sharply the value function saturates; a larger β is more risk-averse in gains.
    pub beta: f64,
    /// λ_D.
    pub desirable_weight: f64,
    /// λ_U.
    pub undesirable_weight: f64,
}

impl Default for Kto {
    fn default() -> Self {
        Self { beta: 0.1, desirable_weight: 1.0, undesirable_weight: 1.0 }
    }
}

/// A completion with a thumb.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unpaired {
    /// Its log-probabilities.
    pub log_prob: LogProb,
    /// Thumbs up.
    pub desirable: bool,
    /// The row's own weight, beside its class's.
    pub weight: f64,
}

/// z0: the mean log-ratio of mismatched completions, clamped to at least 0 *after* the mean (equation 7), in nats.
///
/// 0 if there are none.
pub fn reference_point(mismatched: &[LogProb]) -> f64 {
    mean(mismatched.iter().map(|log_prob| log_prob.ratio())).unwrap_or(0.0).max(0.0)
}

/// KTO's loss: the mean over all examples of w·λ·(1 − v), with v = σ(β(r − z0)) for desirable and σ(β(z0 − r)) for
/// undesirable completions. z0 is a constant: no gradient flows through it.
///
/// The denominator is the number of examples, not the sum of weights. A batch of one class is as good as any other.
pub fn kto(options: &Kto, batch: &[Unpaired], mismatched: &[LogProb]) -> Evaluated {
    let z0 = reference_point(mismatched);
    let count = batch.len().max(1) as f64;
    // The sum is divided at the end, so that a loss of halves is exact.
    let (mut loss, mut gradient) = (0.0, Vec::with_capacity(batch.len()));
    for example in batch {
        let (class_weight, sign) = if example.desirable {
            (options.desirable_weight, 1.0)
        } else {
            (options.undesirable_weight, -1.0)
        };
        let weight = example.weight * class_weight;
        let value = sigmoid(options.beta * sign * (example.log_prob.ratio() - z0));
        loss += weight * (1.0 - value);
        gradient.push(-weight * sign * options.beta * value * (1.0 - value) / count);
    }
    let class = |desirable: bool| -> Vec<_> {
        batch
            .iter()
            .filter(|example| example.desirable == desirable)
            .map(|example| example.log_prob)
            .collect()
    };
    let metrics = Metrics { kl: Some(z0), ..Metrics::of_classes(options.beta, &class(true), &class(false)) };
    Evaluated { loss: loss / count, gradient, metrics }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::math::finite_differences;

    fn ratio(ratio: f64) -> LogProb {
        LogProb { policy: ratio, reference: 0.0 }
    }

    fn golden_batch() -> Vec<Unpaired> {
        let desirable = [2.0, -1.0, 4.5].map(|r| (r, true));
        let undesirable = [0.5, 3.0].map(|r| (r, false));
        desirable
            .into_iter()
            .chain(undesirable)
            .map(|(r, desirable)| Unpaired { log_prob: ratio(r), desirable, weight: 1.0 })
            .collect()
    }

    const MISMATCHED: [f64; 5] = [1.0, -0.5, 0.3, 2.2, -0.25];

    #[test]
    fn golden_values() {
        let mismatched = MISMATCHED.map(ratio);
        assert!((reference_point(&mismatched) - 0.55).abs() < 1e-12);
        let evaluated = kto(&Kto::default(), &golden_batch(), &mismatched);
        assert!((evaluated.loss - 0.492_939_134_4).abs() < 1e-10, "{}", evaluated.loss);
        let expected = [-0.024_869_05, -0.024_850_44, -0.024_049_65, 0.024_999_84, 0.024_628_57];
        for (gradient, expected) in evaluated.gradient.iter().zip(expected) {
            assert!((gradient * 5.0 - expected).abs() < 1e-8, "{gradient}");
        }
        let weighted = kto(&Kto { desirable_weight: 1.2, ..Kto::default() }, &golden_batch(), &mismatched);
        assert!((weighted.loss - 0.549_139_143_2).abs() < 1e-10, "{}", weighted.loss);
        let metrics = evaluated.metrics;
        assert!((metrics.rewards_chosen.unwrap() - 0.55 / 3.0).abs() < 1e-12);
        assert!((metrics.rewards_margins.unwrap() - (0.55 / 3.0 - 0.175)).abs() < 1e-12);
        assert_eq!(metrics.rewards_accuracies, None);
    }

    #[test]
    fn the_reference_point_is_clamped_after_the_mean() {
        assert_eq!(reference_point(&[ratio(-3.0), ratio(1.0)]), 0.0);
        assert_eq!(reference_point(&[]), 0.0);
    }

    #[test]
    fn at_the_start_the_loss_is_half_the_mean_weight() {
        let start = |desirable, weight| Unpaired {
            log_prob: LogProb { policy: -7.3, reference: -7.3 },
            desirable,
            weight,
        };
        let batch = [start(true, 1.0), start(false, 1.0), start(false, 2.0), start(true, 4.0)];
        let options = Kto { desirable_weight: 3.0, ..Kto::default() };
        assert_eq!(kto(&options, &batch, &[ratio(0.0)]).loss, 0.5 * (3.0 + 1.0 + 2.0 + 12.0) / 4.0);
    }

    #[test]
    fn one_class_is_enough() {
        let batch = &golden_batch()[..3];
        let evaluated = kto(&Kto::default(), batch, &[]);
        assert!(evaluated.loss.is_finite());
        assert_eq!(evaluated.metrics.rewards_rejected, None);
        assert_eq!(evaluated.metrics.rewards_margins, None);
    }

    #[test]
    fn extreme_rewards_have_no_gradient() {
        let extreme = |r, desirable| Unpaired { log_prob: ratio(r), desirable, weight: 1.0 };
        let batch = [extreme(1e4, true), extreme(-1e4, true), extreme(1e4, false), extreme(-1e4, false)];
        let evaluated = kto(&Kto::default(), &batch, &[]);
        assert!(evaluated.gradient.iter().all(|gradient| gradient.abs() < 1e-12));
        assert!((evaluated.loss - 0.5).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn gradients_are_derivatives(
            rows in prop::collection::vec((-20.0..20.0f64, any::<bool>(), 0.1..3.0f64), 1..8),
            mismatched in prop::collection::vec(-20.0..20.0f64, 0..5),
            (beta, desirable_weight, undesirable_weight) in (0.01..1.0f64, 0.1..20.0f64, 0.1..20.0f64),
        ) {
            let options = Kto { beta, desirable_weight, undesirable_weight };
            let mismatched: Vec<_> = mismatched.into_iter().map(ratio).collect();
            let batch = |ratios: &[f64]| -> Vec<_> {
                ratios.iter().zip(&rows).map(|(r, (_, desirable, weight))| {
                    Unpaired { log_prob: ratio(*r), desirable: *desirable, weight: *weight }
                }).collect()
            };
            let at: Vec<_> = rows.iter().map(|row| row.0).collect();
            let gradient = kto(&options, &batch(&at), &mismatched).gradient;
            let numeric = finite_differences(&at, |ratios| kto(&options, &batch(ratios), &mismatched).loss);
            for (gradient, numeric) in gradient.iter().zip(numeric) {
                prop_assert!((gradient - numeric).abs() < 1e-7, "{} {}", gradient, numeric);
            }
        }
    }
}
