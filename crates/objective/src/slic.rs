//! Sequence likelihood calibration with human feedback (SLiC-HF, arXiv 2305.10425).

use prospect_core::sample::mean;
use serde::Serialize;

use crate::{
    BatchLoss, PreferencePair,
    pair::{PairLoss, mean_over_pairs},
};

/// Settings of SLiC, under HALOs' names.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Slic {
    /// β (the paper's δ): pairs whose log-prob margin exceeds it have no calibration loss, in nats.
    pub beta: f64,
    /// λ: weight of the likelihood of the chosen completion.
    pub lambda_coef: f64,
}

impl Default for Slic {
    fn default() -> Self {
        Self { beta: 1.0, lambda_coef: 0.1 }
    }
}

/// SLiC-HF (equation 2): the mean over pairs of
/// w·(max(0, β − log π(y_c) + log π(y_r)) − λ·log π(y_c)). It uses no reference model.
///
/// The paper regularises with a sampled or reference text; like HALOs, this uses the chosen
/// completion.
pub fn slic(options: &Slic, pairs: &[PreferencePair]) -> BatchLoss {
    let evaluated = mean_over_pairs(
        pairs,
        |log_prob| log_prob.policy,
        |pair| {
            let (chosen, rejected) = (pair.chosen.policy, pair.rejected.policy);
            let shortfall = options.beta - chosen + rejected;
            let slope = if shortfall > 0.0 { 1.0 } else { 0.0 };
            PairLoss {
                loss: shortfall.max(0.0) - options.lambda_coef * chosen,
                chosen: -slope - options.lambda_coef,
                rejected: slope,
            }
        },
    );
    let nll_loss = mean(pairs.iter().map(|pair| -pair.weight * pair.chosen.policy));
    BatchLoss { metrics: crate::Metrics { nll_loss, ..evaluated.metrics }, ..evaluated }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{math::finite_differences, pair::tests::pairs};

    #[test]
    fn golden_values() {
        let evaluated = slic(&Slic::default(), &pairs(&[-12.0, -9.0, -14.0, -30.0]));
        assert!((evaluated.loss - 1.05).abs() < 1e-10, "{}", evaluated.loss);
        assert_eq!(evaluated.gradient, [-0.05, -0.05, 0.0, 0.0]);
        assert_eq!(evaluated.metrics.nll_loss, Some(10.5));
    }

    proptest! {
        #[test]
        fn gradients_are_derivatives(
            at in prop::collection::vec(-20.0..0.0f64, 1..5), (beta, lambda_coef) in (0.1..3.0f64, 0.0..2.0f64),
        ) {
            let options = Slic { beta, lambda_coef };
            let at: Vec<_> = at.iter().copied().chain(at.iter().map(|x| x * x / 20.0 - 10.0)).collect();
            let at_pairs = pairs(&at);
            prop_assume!(at_pairs.iter().all(|pair| (beta - pair.chosen.policy + pair.rejected.policy).abs() > 1e-3));
            let numeric = finite_differences(&at, |policy| slic(&options, &pairs(policy)).loss);
            for (gradient, numeric) in slic(&options, &at_pairs).gradient.iter().zip(numeric) {
                prop_assert!((gradient - numeric).abs() < 1e-7, "{} {}", gradient, numeric);
            }
        }
    }
}
