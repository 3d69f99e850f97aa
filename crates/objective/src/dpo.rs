//! Direct preference optimisation (arXiv 2305.18290, equation 7).

use crate::{
    Evaluated, LogProb, Metrics,
    math::{log_sigmoid, sigmoid},
    metrics::mean,
};

/// Settings of DPO.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dpo {
    /// β: the strength of the pull to the reference.
    pub beta: f64,
}

impl Default for Dpo {
    fn default() -> Self {
        Self { beta: 0.1 }
    }
}

/// Two completions of one prompt, one preferred.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Log-probabilities of the preferred completion.
    pub chosen: LogProb,
    /// Log-probabilities of the other.
    pub rejected: LogProb,
    /// The pair's own weight.
    pub weight: f64,
}

/// DPO's loss: the mean over pairs of −w·log σ(β(c − r)), c and r being the log-ratios.
///
/// The gradient holds all chosen completions, then all rejected ones.
pub fn dpo(options: &Dpo, pairs: &[Pair]) -> Evaluated {
    let count = pairs.len().max(1) as f64;
    let (mut loss, mut gradient) = (0.0, Vec::with_capacity(2 * pairs.len()));
    for pair in pairs {
        let logit = options.beta * (pair.chosen.ratio() - pair.rejected.ratio());
        loss -= pair.weight * log_sigmoid(logit);
        gradient.push(-pair.weight * options.beta * sigmoid(-logit) / count);
    }
    gradient.extend_from_within(..);
    gradient[pairs.len()..].iter_mut().for_each(|rejected| *rejected = -*rejected);

    let (chosen, rejected): (Vec<_>, Vec<_>) = pairs.iter().map(|pair| (pair.chosen, pair.rejected)).unzip();
    let accuracy = |pair: &Pair| {
        let (chosen, rejected) = (pair.chosen.ratio(), pair.rejected.ratio());
        if chosen == rejected { 0.5 } else { f64::from(chosen > rejected) }
    };
    let metrics = Metrics {
        rewards_accuracies: mean(pairs.iter().map(accuracy)),
        ..Metrics::of_classes(options.beta, &chosen, &rejected)
    };
    Evaluated { loss: loss / count, gradient, metrics }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::math::finite_differences;

    fn pairs(ratios: &[f64]) -> Vec<Pair> {
        let (chosen, rejected) = ratios.split_at(ratios.len() / 2);
        let log_prob = |ratio: &f64| LogProb { policy: *ratio, reference: 0.0 };
        chosen
            .iter()
            .zip(rejected)
            .map(|(c, r)| Pair { chosen: log_prob(c), rejected: log_prob(r), weight: 1.0 })
            .collect()
    }

    #[test]
    fn golden_values() {
        let evaluated = dpo(&Dpo::default(), &pairs(&[2.0, -1.0, 0.5, 3.0]));
        assert!((evaluated.loss - 0.766_986_150_1).abs() < 1e-10, "{}", evaluated.loss);
        assert_eq!(evaluated.metrics.rewards_accuracies, Some(0.5));
        assert!((evaluated.metrics.rewards_margins.unwrap() + 0.125).abs() < 1e-12);
    }

    #[test]
    fn at_the_start_the_loss_is_ln_2() {
        assert_eq!(dpo(&Dpo::default(), &pairs(&[0.0, 0.0])).loss, std::f64::consts::LN_2);
        assert_eq!(dpo(&Dpo::default(), &pairs(&[0.0, 0.0])).metrics.rewards_accuracies, Some(0.5));
    }

    #[test]
    fn extreme_rewards_stay_finite() {
        let evaluated = dpo(&Dpo::default(), &pairs(&[1e5, -1e5, -1e5, 1e5]));
        assert!(evaluated.loss.is_finite());
        assert!(evaluated.gradient.iter().all(|gradient| gradient.is_finite()));
    }

    proptest! {
        #[test]
        fn gradients_are_derivatives(
            at in prop::collection::vec((-20.0..20.0f64, -20.0..20.0f64), 1..6), beta in 0.01..1.0f64,
        ) {
            let at: Vec<_> = at.iter().map(|pair| pair.0).chain(at.iter().map(|pair| pair.1)).collect();
            let gradient = dpo(&Dpo { beta }, &pairs(&at)).gradient;
            let numeric = finite_differences(&at, |ratios| dpo(&Dpo { beta }, &pairs(ratios)).loss);
            for (gradient, numeric) in gradient.iter().zip(numeric) {
                prop_assert!((gradient - numeric).abs() < 1e-7, "{} {}", gradient, numeric);
            }
        }
    }
}
