//! Simple preference optimisation (SimPO, arXiv 2405.14734).

use serde::Serialize;

use crate::{
    BatchLoss, LogProb, PreferencePair,
    math::{log_sigmoid, sigmoid},
    pair::{PairLoss, mean_over_pairs},
};

/// Settings of SimPO.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Simpo {
    /// β: scale from mean log-probs to rewards; the paper uses 2 to 10.
    pub beta: f64,
    /// γ: target margin between chosen and rejected rewards; the paper uses γ/β of 0.3 to 0.55.
    pub simpo_gamma: f64,
}

impl Default for Simpo {
    fn default() -> Self {
        Self { beta: 2.0, simpo_gamma: 0.5 }
    }
}

/// SimPO (equation 6): the mean over pairs of
/// −w·log σ(β·log π(y_c)/|y_c| − β·log π(y_r)/|y_r| − γ). It uses no reference model.
pub fn simpo(options: &Simpo, pairs: &[PreferencePair]) -> BatchLoss {
    let beta = options.beta;
    let reward = |log_prob: LogProb| beta * log_prob.mean();
    mean_over_pairs(pairs, reward, |pair| {
        let x = reward(pair.chosen) - reward(pair.rejected) - options.simpo_gamma;
        let slope = -beta * sigmoid(-x);
        PairLoss {
            loss: -log_sigmoid(x),
            chosen: slope / pair.chosen.length(),
            rejected: -slope / pair.rejected.length(),
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{math::finite_differences, pair::tests::with_lengths};

    const GOLDEN: ([f64; 4], [usize; 4]) = ([-12.0, -9.0, -14.0, -30.0], [10, 5, 8, 20]);

    #[test]
    fn golden_values() {
        let pairs = with_lengths(&GOLDEN.0, &GOLDEN.1);
        let evaluated = simpo(&Simpo::default(), &pairs);
        assert!((evaluated.loss - 0.912_411_637_8).abs() < 1e-10, "{}", evaluated.loss);
        // Rewards use the mean log-prob: -2.4 and -3.6 against -3.5 and -3.
        assert_eq!(evaluated.metrics.rewards_accuracies, Some(0.5));
        assert!((evaluated.metrics.rewards_chosen.unwrap() + 3.0).abs() < 1e-12);
        assert_eq!(evaluated.metrics.logps_chosen, Some(-10.5));
        // β = 10 and γ/β = 0.3 are the settings of the paper's Mistral models.
        let evaluated = simpo(&Simpo { beta: 10.0, simpo_gamma: 3.0 }, &pairs);
        assert!((evaluated.loss - 3.040_682_709_7).abs() < 1e-10, "{}", evaluated.loss);
    }

    #[test]
    fn extremes_and_empty_completions_stay_finite() {
        let evaluated = simpo(&Simpo::default(), &with_lengths(&[-1e6, 0.0, 0.0, -1e6], &[0, 0, 0, 0]));
        assert!(evaluated.loss.is_finite());
        assert!(evaluated.gradient.iter().all(|gradient| gradient.is_finite()));
    }

    proptest! {
        #[test]
        fn gradients_are_derivatives(
            at in prop::collection::vec((-20.0..0.0f64, 1..9usize), 1..5),
            (beta, simpo_gamma) in (0.1..3.0f64, 0.0..2.0f64),
        ) {
            let options = Simpo { beta, simpo_gamma };
            let at = at.repeat(2);
            let (policy, tokens): (Vec<_>, Vec<_>) = at.into_iter().unzip();
            let numeric = finite_differences(&policy, |policy| simpo(&options, &with_lengths(policy, &tokens)).loss);
            for (gradient, numeric) in simpo(&options, &with_lengths(&policy, &tokens)).gradient.iter().zip(numeric) {
                prop_assert!((gradient - numeric).abs() < 1e-7, "{} {}", gradient, numeric);
            }
        }
    }
}
