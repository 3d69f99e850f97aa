//! Noise contrastive alignment on pairs (NCA, arXiv 2402.05369).

use crate::{
    BatchLoss, Dpo, LogProb, PreferencePair,
    math::{log_sigmoid, sigmoid},
    pair::{PairLoss, mean_over_pairs},
};

/// NCA for pairs (equation 12): −log σ(βc) − ½·log σ(−βc) − ½·log σ(−βr).
///
/// The absolute reward of the chosen completion is bounded; DPO's may fall.
pub fn nca_pair(options: &Dpo, pairs: &[PreferencePair]) -> BatchLoss {
    let beta = options.beta;
    let reward = |log_prob: LogProb| beta * log_prob.ratio();
    mean_over_pairs(pairs, reward, |pair| {
        let (chosen, rejected) = (reward(pair.chosen), reward(pair.rejected));
        PairLoss {
            loss: -log_sigmoid(chosen) - 0.5 * log_sigmoid(-chosen) - 0.5 * log_sigmoid(-rejected),
            chosen: beta * (0.5 * sigmoid(chosen) - sigmoid(-chosen)),
            rejected: beta * 0.5 * sigmoid(rejected),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::tests::{assert_gradients, pairs};

    #[test]
    fn golden_values() {
        // Computed from equation 12 with Python's math.exp.
        let evaluated = nca_pair(&Dpo { beta: 0.1 }, &pairs(&[2.0, -1.0, 0.5, 3.0]));
        assert!((evaluated.loss - 1.425_105_370_2).abs() < 1e-10, "{}", evaluated.loss);
        assert_eq!(nca_pair(&Dpo::default(), &pairs(&[0.0, 0.0])).loss, 2.0 * std::f64::consts::LN_2);
    }

    #[test]
    fn gradients_are_derivatives() {
        assert_gradients(|beta, pairs| nca_pair(&Dpo { beta }, pairs));
    }
}
