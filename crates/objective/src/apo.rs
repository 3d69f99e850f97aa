//! Anchored preference optimisation on pairs (APO, arXiv 2408.06266).

use crate::{
    BatchLoss, Dpo, LogProb, PreferencePair,
    math::sigmoid,
    pair::{PairLoss, mean_over_pairs},
};

/// APO-zero (equation 7): (1 − σ(βc)) + σ(βr). Raises chosen and lowers rejected completions, each
/// relative to the reference; for chosen completions that are better than the policy's own.
pub fn apo_zero(options: &Dpo, pairs: &[PreferencePair]) -> BatchLoss {
    let beta = options.beta;
    let reward = |log_prob: LogProb| beta * log_prob.ratio();
    mean_over_pairs(pairs, reward, |pair| {
        let (chosen, rejected) = (sigmoid(reward(pair.chosen)), sigmoid(reward(pair.rejected)));
        PairLoss {
            loss: 1.0 - chosen + rejected,
            chosen: -beta * chosen * (1.0 - chosen),
            rejected: beta * rejected * (1.0 - rejected),
        }
    })
}

/// APO-down (equation 8): σ(βc) + (1 − σ(β(c − r))). Lowers both completions, the rejected one
/// more; for chosen completions that are worse than the policy's own.
pub fn apo_down(options: &Dpo, pairs: &[PreferencePair]) -> BatchLoss {
    let beta = options.beta;
    let reward = |log_prob: LogProb| beta * log_prob.ratio();
    mean_over_pairs(pairs, reward, |pair| {
        let chosen = sigmoid(reward(pair.chosen));
        let margin = sigmoid(reward(pair.chosen) - reward(pair.rejected));
        let margin_slope = beta * margin * (1.0 - margin);
        PairLoss {
            loss: chosen + 1.0 - margin,
            chosen: beta * chosen * (1.0 - chosen) - margin_slope,
            rejected: margin_slope,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::tests::{assert_gradients, pairs};

    #[test]
    fn golden_values() {
        // Computed from equations 7 and 8 with Python's math.exp.
        let pairs = pairs(&[2.0, -1.0, 0.5, 3.0]);
        let options = Dpo { beta: 0.1 };
        assert!((apo_zero(&options, &pairs).loss - 1.031_042_551_8).abs() < 1e-10);
        assert!((apo_down(&options, &pairs).loss - 1.043_056_312_3).abs() < 1e-10);
    }

    #[test]
    fn at_the_start_the_loss_is_1() {
        let pairs = pairs(&[0.0, 0.0]);
        assert_eq!(apo_zero(&Dpo::default(), &pairs).loss, 1.0);
        assert_eq!(apo_down(&Dpo::default(), &pairs).loss, 1.0);
    }

    #[test]
    fn gradients_are_derivatives() {
        assert_gradients(|beta, pairs| apo_zero(&Dpo { beta }, pairs));
        assert_gradients(|beta, pairs| apo_down(&Dpo { beta }, pairs));
    }
}
