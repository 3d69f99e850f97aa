//! Shared code of the objectives on preference pairs.

use prospect_core::sample::mean;

use crate::{BatchLoss, LogProb, Metrics};

/// Two completions of one prompt, one of them preferred.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PreferencePair {
    /// Log-probabilities of the preferred completion.
    pub chosen: LogProb,
    /// Log-probabilities of the rejected completion.
    pub rejected: LogProb,
    /// Weight of the pair.
    pub weight: f64,
}

/// Loss of one pair, and its derivatives with respect to log π of both completions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PairLoss {
    pub(crate) loss: f64,
    pub(crate) chosen: f64,
    pub(crate) rejected: f64,
}

/// Averages weight · loss over the pairs; the denominator is the number of pairs. `reward` defines
/// the rewards shown in the metrics.
pub(crate) fn mean_over_pairs(
    pairs: &[PreferencePair],
    reward: impl Fn(LogProb) -> f64,
    mut term: impl FnMut(&PreferencePair) -> PairLoss,
) -> BatchLoss {
    let count = pairs.len().max(1) as f64;
    let (mut loss, mut gradient) = (0.0, vec![0.0; 2 * pairs.len()]);
    let (chosen_gradient, rejected_gradient) = gradient.split_at_mut(pairs.len());
    for ((pair, chosen), rejected) in pairs.iter().zip(chosen_gradient).zip(rejected_gradient) {
        let term = term(pair);
        loss += pair.weight * term.loss;
        *chosen = pair.weight * term.chosen / count;
        *rejected = pair.weight * term.rejected / count;
    }

    let (chosen, rejected): (Vec<_>, Vec<_>) = pairs.iter().map(|pair| (pair.chosen, pair.rejected)).unzip();
    let accuracy = |pair: &PreferencePair| {
        let (chosen, rejected) = (reward(pair.chosen), reward(pair.rejected));
        if chosen == rejected { 0.5 } else { f64::from(chosen > rejected) }
    };
    let metrics = Metrics {
        rewards_accuracies: mean(pairs.iter().map(accuracy)),
        ..Metrics::from_classes(&reward, &chosen, &rejected)
    };
    BatchLoss { loss: loss / count, gradient, metrics }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::math::finite_differences;

    /// Asserts that the gradient of an objective of β equals finite differences, on batches of one
    /// to five pairs with distinct log-ratios and weights.
    pub(crate) fn assert_gradients(evaluate: impl Fn(f64, &[PreferencePair]) -> BatchLoss) {
        for count in 1..=5_usize {
            for beta in [0.02, 0.1, 0.7] {
                // Multiples of the golden ratio are spread evenly; of squares, differences are too.
                let at: Vec<f64> = (0..2 * count)
                    .map(|index| 30.0 * (0.618_034 * (index * index + 7 * count) as f64).fract() - 15.0)
                    .collect();
                let weighted = |ratios: &[f64]| {
                    let mut pairs = pairs(ratios);
                    for (index, pair) in pairs.iter_mut().enumerate() {
                        pair.weight = 0.5 + index as f64;
                        pair.chosen.reference = 0.1 * index as f64;
                    }
                    pairs
                };
                let numeric = finite_differences(&at, |ratios| evaluate(beta, &weighted(ratios)).loss);
                let gradient = evaluate(beta, &weighted(&at)).gradient;
                assert_eq!(gradient.len(), numeric.len());
                for (gradient, numeric) in gradient.iter().zip(numeric) {
                    let tolerance = 1e-6 * (1.0 + gradient.abs());
                    assert!((gradient - numeric).abs() < tolerance, "β {beta}: {gradient} {numeric}");
                }
            }
        }
    }

    /// Builds pairs of weight 1 from log-ratios `[chosen…, rejected…]`.
    pub(crate) fn pairs(ratios: &[f64]) -> Vec<PreferencePair> {
        with_lengths(ratios, &vec![1; ratios.len()])
    }

    /// Builds pairs of weight 1 from log π `[chosen…, rejected…]` and token counts; the reference's
    /// log π is 0.
    pub(crate) fn with_lengths(policy: &[f64], tokens: &[usize]) -> Vec<PreferencePair> {
        let log_probs: Vec<_> = policy
            .iter()
            .zip(tokens)
            .map(|(policy, tokens)| LogProb { policy: *policy, reference: 0.0, tokens: *tokens })
            .collect();
        let (chosen, rejected) = log_probs.split_at(log_probs.len() / 2);
        chosen
            .iter()
            .zip(rejected)
            .map(|(chosen, rejected)| PreferencePair { chosen: *chosen, rejected: *rejected, weight: 1.0 })
            .collect()
    }

    #[test]
    fn weights_scale_and_do_not_change_the_denominator() {
        let term = |_: &PreferencePair| PairLoss { loss: 1.0, chosen: 2.0, rejected: 3.0 };
        let mut pairs = pairs(&[0.0; 4]);
        pairs[1].weight = 3.0;
        let evaluated = mean_over_pairs(&pairs, LogProb::ratio, term);
        assert_eq!((evaluated.loss, evaluated.gradient), (2.0, vec![1.0, 3.0, 1.5, 4.5]));
    }

    #[test]
    fn no_pairs_have_no_loss() {
        let term = |_: &PreferencePair| PairLoss { loss: 1.0, chosen: 2.0, rejected: 3.0 };
        let evaluated = mean_over_pairs(&[], LogProb::ratio, term);
        assert_eq!(
            (evaluated.loss, evaluated.gradient, evaluated.metrics),
            (0.0, vec![], Metrics::default())
        );
    }
}
