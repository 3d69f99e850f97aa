//! Kahneman–Tversky optimisation (KTO, arXiv 2402.01306, version 4, equation 8), and APO-zero, its
//! variant with a fixed reference point.

use prospect_core::sample::mean;

use serde::{Deserialize, Serialize};

use crate::{
    BatchLoss, ClassWeights, LogProb, Metrics,
    math::{log_sigmoid, sigmoid},
};

/// Settings of KTO, and of APO-zero on unpaired completions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kto {
    /// β: how fast the value function saturates; a larger β is more risk-averse in gains.
    pub beta: f64,
    /// Class weights λ_D and λ_U.
    pub weights: ClassWeights,
}

impl Default for Kto {
    fn default() -> Self {
        Self { beta: 0.1, weights: ClassWeights::default() }
    }
}

/// Completion labelled as desirable or undesirable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unpaired {
    /// Log-probabilities of the completion.
    pub log_prob: LogProb,
    /// Label: true if desirable.
    pub desirable: bool,
    /// Weight of the example, in addition to its class weight.
    pub weight: f64,
}

/// Value function of KTO, applied to x = ±β(r − z0). The paper's is the logistic function; the
/// others are those of its ablations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KtoValue {
    /// σ(x): concave in gains, convex in losses.
    #[default]
    Sigmoid,
    /// log σ(x): concave everywhere, so that the worst examples have the largest gradient.
    LogSigmoid,
    /// x: no value function.
    Identity,
}

impl KtoValue {
    /// Loss at x, and two factors of its negative derivative.
    fn loss_and_descent(self, x: f64) -> (f64, [f64; 2]) {
        match self {
            Self::Sigmoid => {
                let value = sigmoid(x);
                (1.0 - value, [value, 1.0 - value])
            }
            Self::LogSigmoid => (-log_sigmoid(x), [sigmoid(-x), 1.0]),
            Self::Identity => (-x, [1.0, 1.0]),
        }
    }
}

/// Estimates the reference point z0: the mean log-ratio of mismatched completions, clamped to at
/// least 0 *after* averaging, in nats. Without completions it is 0.
pub fn reference_point(mismatched: &[LogProb]) -> f64 {
    mean_log_ratio(mismatched).unwrap_or(0.0).max(0.0)
}

/// Mean log-ratio of mismatched completions in nats, the estimate that [`reference_point`] clamps;
/// None without completions.
pub fn mean_log_ratio(mismatched: &[LogProb]) -> Option<f64> {
    mean(mismatched.iter().map(|log_prob| log_prob.ratio()))
}

/// Estimates the reference point without a reference model: the mean of log π of mismatched
/// completions, in nats. It estimates the policy's negative entropy and is not clamped, since
/// log-probs are negative. Without completions it is 0.
pub fn entropy_point(mismatched: &[LogProb]) -> f64 {
    mean(mismatched.iter().map(|log_prob| log_prob.policy)).unwrap_or(0.0)
}

/// KTO: the mean over examples of w·λ·(1 − v), where v = σ(β(r − z0)) for desirable and
/// v = σ(β(z0 − r)) for undesirable completions. No gradient flows through z0.
///
/// Each group of examples has its own reference point; the exact estimate uses one group, the whole
/// batch. The denominator is the number of examples, not the sum of weights. A batch with a single
/// class is valid.
pub fn kto(options: &Kto, groups: &[(&[Unpaired], f64)]) -> BatchLoss {
    kto_with_value(options, KtoValue::Sigmoid, groups)
}

/// KTO with another value function: the mean over examples of −w·λ·v, plus w·λ for σ. The loss at
/// x = 0 is ½ for σ, ln 2 for log σ and 0 for the identity.
pub fn kto_with_value(options: &Kto, value: KtoValue, groups: &[(&[Unpaired], f64)]) -> BatchLoss {
    let examples = || groups.iter().flat_map(|(group, z0)| group.iter().map(move |example| (example, *z0)));
    let batch: Vec<Unpaired> = examples().map(|(example, _)| *example).collect();
    let count = batch.len().max(1) as f64;
    // Dividing the sum only at the end keeps a loss of halves exact.
    let (mut loss, mut gradient) = (0.0, Vec::with_capacity(batch.len()));
    for (example, z0) in examples() {
        let (class_weight, sign) = if example.desirable {
            (options.weights.desirable, 1.0)
        } else {
            (options.weights.undesirable, -1.0)
        };
        let weight = example.weight * class_weight;
        let x = options.beta * sign * (example.log_prob.ratio() - z0);
        let (term, [first, second]) = value.loss_and_descent(x);
        loss += weight * term;
        gradient.push(-weight * sign * options.beta * first * second / count);
    }
    let (desirable, undesirable) = classes(&batch);
    let reward = |log_prob: LogProb| options.beta * log_prob.ratio();
    let metrics = Metrics {
        kl: mean(groups.iter().map(|(_, z0)| *z0)),
        ..Metrics::from_classes(reward, &desirable, &undesirable)
    };
    BatchLoss { loss: loss / count, gradient, metrics }
}

/// APO-zero on unpaired completions (TRL's `apo_zero_unpaired`, after arXiv 2408.06266, equation
/// 7): KTO with the reference point fixed at 0, which needs no estimate.
pub fn apo_zero_unpaired(options: &Kto, batch: &[Unpaired]) -> BatchLoss {
    let evaluated = kto(options, &[(batch, 0.0)]);
    BatchLoss { metrics: Metrics { kl: None, ..evaluated.metrics }, ..evaluated }
}

/// Splits a batch into the log-probs of desirable and of undesirable completions.
pub(crate) fn classes(batch: &[Unpaired]) -> (Vec<LogProb>, Vec<LogProb>) {
    let class = |desirable: bool| {
        batch
            .iter()
            .filter(move |example| example.desirable == desirable)
            .map(|example| example.log_prob)
            .collect()
    };
    (class(true), class(false))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::math::finite_differences;

    fn ratio(ratio: f64) -> LogProb {
        LogProb { policy: ratio, reference: 0.0, tokens: 1 }
    }

    /// Builds examples of weight 1 from log-ratios and labels.
    pub(crate) fn unpaired(rows: &[(f64, bool)]) -> Vec<Unpaired> {
        rows.iter()
            .map(|(r, desirable)| Unpaired { log_prob: ratio(*r), desirable: *desirable, weight: 1.0 })
            .collect()
    }

    fn golden_batch() -> Vec<Unpaired> {
        unpaired(&[(2.0, true), (-1.0, true), (4.5, true), (0.5, false), (3.0, false)])
    }

    /// Mean of log(1 + exp(−x)).
    const LOG_SIGMOID_LOSS: f64 = 0.685_145_409_827;
    const MISMATCHED: [f64; 5] = [1.0, -0.5, 0.3, 2.2, -0.25];

    #[test]
    fn golden_values() {
        let z0 = reference_point(&MISMATCHED.map(ratio));
        assert!((z0 - 0.55).abs() < 1e-12);
        let evaluated = kto(&Kto::default(), &[(&golden_batch(), z0)]);
        assert!((evaluated.loss - 0.492_939_134_4).abs() < 1e-10, "{}", evaluated.loss);
        let expected = [-0.024_869_05, -0.024_850_44, -0.024_049_65, 0.024_999_84, 0.024_628_57];
        for (gradient, expected) in evaluated.gradient.iter().zip(expected) {
            assert!((gradient * 5.0 - expected).abs() < 1e-8, "{gradient}");
        }
        let weights = ClassWeights { desirable: 1.2, undesirable: 1.0 };
        let weighted = kto(&Kto { weights, ..Kto::default() }, &[(&golden_batch(), z0)]);
        assert!((weighted.loss - 0.549_139_143_2).abs() < 1e-10, "{}", weighted.loss);
        let metrics = evaluated.metrics;
        assert!((metrics.rewards_chosen.unwrap() - 0.55 / 3.0).abs() < 1e-12);
        assert!((metrics.rewards_margins.unwrap() - (0.55 / 3.0 - 0.175)).abs() < 1e-12);
        assert_eq!((metrics.rewards_accuracies, metrics.kl), (None, Some(z0)));

        let apo = apo_zero_unpaired(&Kto::default(), &golden_batch());
        assert!((apo.loss - 0.490_289_173_9).abs() < 1e-10, "{}", apo.loss);
        assert_eq!(apo.metrics.kl, None);
    }

    #[test]
    fn value_functions_have_their_golden_values() {
        // Computed from the formulas with Python's math: z0 = 0.55, x = ±0.1·(r − 0.55).
        let groups = |value| kto_with_value(&Kto::default(), value, &[(&golden_batch(), 0.55)]);
        let log_sigmoid = groups(KtoValue::LogSigmoid);
        assert!((log_sigmoid.loss - LOG_SIGMOID_LOSS).abs() < 1e-12, "{}", log_sigmoid.loss);
        // x sums to 0.145 − 0.155 + 0.395 + 0.005 − 0.245 = 0.145.
        let identity = groups(KtoValue::Identity);
        assert!((identity.loss + 0.145 / 5.0).abs() < 1e-15, "{}", identity.loss);
        for (gradient, expected) in identity.gradient.iter().zip([-0.02, -0.02, -0.02, 0.02, 0.02]) {
            assert!((gradient - expected).abs() < 1e-15);
        }
        let start = unpaired(&[(0.0, true), (0.0, false)]);
        let at_start = |value| kto_with_value(&Kto::default(), value, &[(&start, 0.0)]).loss;
        assert_eq!(at_start(KtoValue::LogSigmoid), std::f64::consts::LN_2);
        assert_eq!(at_start(KtoValue::Identity), 0.0);
    }

    #[test]
    fn the_entropy_point_is_a_mean_of_log_probs_without_clamp() {
        let log_prob = |policy| LogProb { policy, reference: -5.0, tokens: 1 };
        assert_eq!(entropy_point(&[log_prob(-3.0), log_prob(-4.0)]), -3.5);
        assert_eq!(entropy_point(&[]), 0.0);
    }

    #[test]
    fn the_reference_point_is_clamped_after_the_mean() {
        assert_eq!(reference_point(&[ratio(-3.0), ratio(1.0)]), 0.0);
        assert_eq!(mean_log_ratio(&[ratio(-3.0), ratio(1.0)]), Some(-1.0));
        assert_eq!((reference_point(&[]), mean_log_ratio(&[])), (0.0, None));
    }

    #[test]
    fn groups_have_their_own_reference_points_and_one_denominator() {
        let batch = golden_batch();
        let (first, second) = batch.split_at(2);
        let whole = |z0| kto(&Kto::default(), &[(&batch, z0)]);
        let grouped = kto(&Kto::default(), &[(first, 0.3), (second, 2.0)]);
        assert_eq!(grouped.gradient[..2], whole(0.3).gradient[..2]);
        assert_eq!(grouped.gradient[2..], whole(2.0).gradient[2..]);
        assert_eq!(grouped.metrics.kl, Some(1.15));
        assert_eq!(kto(&Kto::default(), &[(first, 0.3), (second, 0.3)]).loss, whole(0.3).loss);
    }

    #[test]
    fn at_the_start_the_loss_is_half_the_mean_weight() {
        let start = |desirable, weight| Unpaired {
            log_prob: LogProb { policy: -7.3, reference: -7.3, tokens: 4 },
            desirable,
            weight,
        };
        let batch = [start(true, 1.0), start(false, 1.0), start(false, 2.0), start(true, 4.0)];
        let options = Kto { weights: ClassWeights { desirable: 3.0, undesirable: 1.0 }, ..Kto::default() };
        assert_eq!(kto(&options, &[(&batch, 0.0)]).loss, 0.5 * (3.0 + 1.0 + 2.0 + 12.0) / 4.0);
        assert_eq!(apo_zero_unpaired(&options, &batch).loss, 0.5 * (3.0 + 1.0 + 2.0 + 12.0) / 4.0);
    }

    #[test]
    fn one_class_is_enough() {
        let evaluated = kto(&Kto::default(), &[(&golden_batch()[..3], 0.0)]);
        assert!(evaluated.loss.is_finite());
        assert_eq!(evaluated.metrics.rewards_rejected, None);
        assert_eq!(evaluated.metrics.rewards_margins, None);
    }

    #[test]
    fn extreme_rewards_have_no_gradient() {
        let batch = unpaired(&[(1e4, true), (-1e4, true), (1e4, false), (-1e4, false)]);
        let evaluated = kto(&Kto::default(), &[(&batch, 0.0)]);
        assert!(evaluated.gradient.iter().all(|gradient| gradient.abs() < 1e-12));
        assert!((evaluated.loss - 0.5).abs() < 1e-12);
        // Saturation holds from |β(r − z0)| = 30.
        let batch = unpaired(&[(301.0, true), (-299.0, true), (301.0, false)]);
        let evaluated = kto(&Kto::default(), &[(&batch, 1.0)]);
        assert!(evaluated.gradient.iter().all(|gradient| gradient.abs() < 1e-13));
    }

    proptest! {
        #[test]
        fn gradients_are_derivatives(
            rows in prop::collection::vec((-20.0..20.0f64, any::<bool>(), 0.1..3.0f64), 1..8),
            (z0, beta) in (0.0..5.0f64, 0.01..1.0f64),
            (desirable, undesirable) in (0.1..20.0f64, 0.1..20.0f64),
        ) {
            let options = Kto { beta, weights: ClassWeights { desirable, undesirable } };
            let batch = |ratios: &[f64]| -> Vec<_> {
                ratios.iter().zip(&rows).map(|(r, (_, desirable, weight))| {
                    Unpaired { log_prob: ratio(*r), desirable: *desirable, weight: *weight }
                }).collect()
            };
            let at: Vec<_> = rows.iter().map(|row| row.0).collect();
            for value in [KtoValue::Sigmoid, KtoValue::LogSigmoid, KtoValue::Identity] {
                let evaluate = |ratios: &[f64]| kto_with_value(&options, value, &[(&batch(ratios), z0)]);
                let numeric = finite_differences(&at, |ratios| evaluate(ratios).loss);
                for (gradient, numeric) in evaluate(&at).gradient.iter().zip(numeric) {
                    prop_assert!((gradient - numeric).abs() < 1e-6, "{:?} {} {}", value, gradient, numeric);
                }
            }
        }
    }
}
