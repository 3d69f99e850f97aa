//! Self-play preference optimisation with hard labels (SPPO, arXiv 2405.00675).

use crate::{
    BatchLoss, Dpo, LogProb, PreferencePair,
    pair::{PairLoss, mean_over_pairs},
};

/// SPPO with win probabilities of 1 and 0 (equation 4.7): (c − 1/(2β))² + (r + 1/(2β))².
pub fn sppo_hard(options: &Dpo, pairs: &[PreferencePair]) -> BatchLoss {
    let target = 0.5 / options.beta;
    mean_over_pairs(
        pairs,
        |log_prob: LogProb| options.beta * log_prob.ratio(),
        |pair| {
            let (chosen, rejected) = (pair.chosen.ratio() - target, pair.rejected.ratio() + target);
            PairLoss {
                loss: chosen * chosen + rejected * rejected,
                chosen: 2.0 * chosen,
                rejected: 2.0 * rejected,
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::tests::{assert_gradients, pairs};

    #[test]
    fn golden_values() {
        // By hand: c = 2, −1 and r = 0.5, 3 with targets ±5.
        let evaluated = sppo_hard(&Dpo { beta: 0.1 }, &pairs(&[2.0, -1.0, 0.5, 3.0]));
        assert_eq!(evaluated.loss, f64::midpoint(9.0 + 30.25, 36.0 + 64.0));
        assert_eq!(evaluated.gradient, [-3.0, -6.0, 5.5, 8.0]);
        assert_eq!(sppo_hard(&Dpo { beta: 0.1 }, &pairs(&[0.0, 0.0])).loss, 50.0);
    }

    #[test]
    fn gradients_are_derivatives() {
        assert_gradients(|beta, pairs| sppo_hard(&Dpo { beta }, pairs));
    }
}
