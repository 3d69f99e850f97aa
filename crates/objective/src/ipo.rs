//! Identity preference optimisation (IPO, arXiv 2310.12036).

use serde::Serialize;

use crate::{
    BatchLoss, LogProb, PreferencePair,
    pair::{PairLoss, mean_over_pairs},
};

/// Settings of IPO.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ipo {
    /// β (the paper's τ): the target margin of mean log-ratios is 1/(2β), in nats per token.
    pub beta: f64,
}

impl Default for Ipo {
    fn default() -> Self {
        Self { beta: 0.1 }
    }
}

/// IPO (equation 17): the mean over pairs of w·(c/|y_c| − r/|y_r| − 1/(2β))², where c and r are the
/// log-ratios.
///
/// The division by length is not in the paper. TRL's maintainers have it from the paper's authors;
/// with sums, the target would depend on length.
pub fn ipo(options: &Ipo, pairs: &[PreferencePair]) -> BatchLoss {
    let reward = |log_prob: LogProb| options.beta * log_prob.ratio();
    mean_over_pairs(pairs, reward, |pair| {
        let (chosen, rejected) = (pair.chosen.length(), pair.rejected.length());
        let residual = pair.chosen.ratio() / chosen - pair.rejected.ratio() / rejected - 0.5 / options.beta;
        PairLoss {
            loss: residual * residual,
            chosen: 2.0 * residual / chosen,
            rejected: -2.0 * residual / rejected,
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{math::finite_differences, pair::tests::with_lengths};

    #[test]
    fn golden_values() {
        let evaluated = ipo(&Ipo { beta: 0.1 }, &with_lengths(&[2.0, -1.0, 0.5, 3.0], &[10, 5, 8, 20]));
        assert!((evaluated.loss - 26.133_203_125_0).abs() < 1e-10, "{}", evaluated.loss);
        assert!((evaluated.metrics.rewards_chosen.unwrap() - 0.05).abs() < 1e-12);
    }

    #[test]
    fn at_the_start_the_loss_is_the_square_of_the_target_even_without_tokens() {
        for tokens in [0, 1, 7] {
            assert_eq!(ipo(&Ipo { beta: 0.1 }, &with_lengths(&[0.0, 0.0], &[tokens, tokens])).loss, 25.0);
        }
    }

    proptest! {
        #[test]
        fn gradients_are_derivatives(
            at in prop::collection::vec((-20.0..20.0f64, 1..9usize), 1..5), beta in 0.05..1.0f64,
        ) {
            let at = at.repeat(2);
            let (ratios, tokens): (Vec<_>, Vec<_>) = at.into_iter().unzip();
            let numeric = finite_differences(&ratios, |ratios| ipo(&Ipo { beta }, &with_lengths(ratios, &tokens)).loss);
            for (gradient, numeric) in ipo(&Ipo { beta }, &with_lengths(&ratios, &tokens)).gradient.iter().zip(numeric) {
                prop_assert!((gradient - numeric).abs() < 1e-6 * (1.0 + gradient.abs()), "{} {}", gradient, numeric);
            }
        }
    }
}
