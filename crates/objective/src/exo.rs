//! Efficient exact optimisation on pairs (EXO, arXiv 2402.00856).

use serde::Serialize;

use crate::{
    BatchLoss, LogProb, PreferencePair,
    math::{log_sigmoid, sigmoid},
    pair::{PairLoss, mean_over_pairs},
};

/// Settings of EXO.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Exo {
    /// β: scale of the log-ratios.
    pub beta: f64,
    /// ε: probability that a label is wrong, above 0 and below 1/2.
    pub label_smoothing: f64,
}

impl Default for Exo {
    fn default() -> Self {
        Self { beta: 0.1, label_smoothing: 1e-3 }
    }
}

/// EXO-pref (equation 16 for two completions): the divergence KL(q ‖ p) between the policy's
/// preference q = σ(x), x = β(c − r), and the labels' p = 1 − ε:
/// q·(log q − log(1 − ε)) + (1 − q)·(log(1 − q) − log ε).
///
/// DPO with label smoothing minimises the opposite divergence, KL(p ‖ q).
pub fn exo_pair(options: &Exo, pairs: &[PreferencePair]) -> BatchLoss {
    let Exo { beta, label_smoothing: epsilon } = *options;
    let (log_right, log_wrong) = ((-epsilon).ln_1p(), epsilon.ln());
    mean_over_pairs(
        pairs,
        |log_prob: LogProb| beta * log_prob.ratio(),
        |pair| {
            let x = beta * (pair.chosen.ratio() - pair.rejected.ratio());
            let (right, wrong) = (sigmoid(x), sigmoid(-x));
            let loss = right * (log_sigmoid(x) - log_right) + wrong * (log_sigmoid(-x) - log_wrong);
            // log q − log(1 − q) is x; the derivatives of the logarithms cancel.
            let slope = beta * right * wrong * (x - log_right + log_wrong);
            PairLoss { loss, chosen: slope, rejected: -slope }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::tests::{assert_gradients, pairs};

    #[test]
    fn the_optimum_is_the_preference_of_the_labels() {
        let options = Exo { beta: 1.0, label_smoothing: 0.2 };
        let at = |margin: f64| exo_pair(&options, &pairs(&[margin, 0.0]));
        let best = at(4.0_f64.ln());
        assert!(best.loss.abs() < 1e-15 && best.gradient[0].abs() < 1e-15);
        assert!(at(1.0).loss > 0.0 && at(1.0).gradient[0] < 0.0);
        assert!(at(2.0).loss > 0.0 && at(2.0).gradient[0] > 0.0);
    }

    #[test]
    fn extreme_margins_stay_finite() {
        for ratios in [[1e5, -1e5], [-1e5, 1e5]] {
            let evaluated = exo_pair(&Exo::default(), &pairs(&ratios));
            assert!(
                evaluated.loss.is_finite() && evaluated.gradient.iter().all(|gradient| gradient.is_finite())
            );
        }
    }

    #[test]
    fn gradients_are_derivatives() {
        for label_smoothing in [1e-3, 0.1, 0.4] {
            assert_gradients(|beta, pairs| exo_pair(&Exo { beta, label_smoothing }, pairs));
        }
    }
}
