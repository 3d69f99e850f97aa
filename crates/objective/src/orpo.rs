//! Odds-ratio preference optimisation (ORPO, arXiv 2403.07691).

use prospect_core::sample::mean;
use serde::Serialize;

use crate::{
    BatchLoss, LogProb, Metrics, PreferencePair,
    math::{log_sigmoid, sigmoid},
    pair::{PairLoss, mean_over_pairs},
};

/// Settings of ORPO.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Orpo {
    /// β (the paper's λ): weight of the odds-ratio term relative to the likelihood of the chosen
    /// completion.
    pub beta: f64,
}

impl Default for Orpo {
    fn default() -> Self {
        Self { beta: 0.1 }
    }
}

/// ORPO (equation 6): the mean over pairs of w·(−m_c − β·log σ(log odds(m_c) − log odds(m_r))),
/// where m is the mean log π per token and odds = e^m/(1 − e^m). It uses no reference model.
pub fn orpo(options: &Orpo, pairs: &[PreferencePair]) -> BatchLoss {
    let reward = |log_prob: LogProb| options.beta * log_prob.mean();
    let evaluated = mean_over_pairs(pairs, reward, |pair| {
        let (chosen, rejected) = (LogOdds::new(pair.chosen), LogOdds::new(pair.rejected));
        let x = chosen.value - rejected.value;
        let slope = options.beta * sigmoid(-x);
        PairLoss {
            loss: -pair.chosen.mean() - options.beta * log_sigmoid(x),
            chosen: (-1.0 - slope * chosen.slope) / pair.chosen.length(),
            rejected: slope * rejected.slope / pair.rejected.length(),
        }
    });
    let log_odds =
        |pair: &PreferencePair| LogOdds::new(pair.chosen).value - LogOdds::new(pair.rejected).value;
    let metrics = Metrics {
        nll_loss: mean(pairs.iter().map(|pair| -pair.weight * pair.chosen.mean())),
        log_odds_ratio: mean(pairs.iter().map(|pair| log_sigmoid(log_odds(pair)))),
        log_odds_chosen: mean(pairs.iter().map(log_odds)),
        ..evaluated.metrics
    };
    BatchLoss { metrics, ..evaluated }
}

/// Mean log-prob above which log-odds continue along the tangent. A certain token (log π = 0, which
/// f32 reaches) would have infinite log-odds.
const CERTAIN: f64 = -1e-6;

/// Log-odds log(e^m/(1 − e^m)) and their derivative with respect to m.
#[derive(Clone, Copy)]
struct LogOdds {
    value: f64,
    slope: f64,
}

impl LogOdds {
    fn new(log_prob: LogProb) -> Self {
        let mean = log_prob.mean();
        let at = mean.min(CERTAIN);
        // 1 − e^m without cancellation for e^m near 1.
        let complement = -at.exp_m1();
        let slope = 1.0 / complement;
        Self { value: at - complement.ln() + slope * (mean - at), slope }
    }
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
        for (pair, expected) in pairs.iter().zip([0.717_495_55, -0.371_800_89]) {
            let log_odds = LogOdds::new(pair.chosen).value - LogOdds::new(pair.rejected).value;
            assert!((log_odds - expected).abs() < 1e-8, "{log_odds}");
        }
        let BatchLoss { loss, metrics, .. } = orpo(&Orpo::default(), &pairs);
        assert!((metrics.log_odds_ratio.unwrap() + 0.646_821_585_6).abs() < 1e-10);
        assert!((metrics.nll_loss.unwrap() - 1.5).abs() < 1e-12);
        assert!((loss - (1.5 + 0.064_682_158_56)).abs() < 1e-10, "{loss}");
    }

    #[test]
    fn near_certainty_odds_are_exact_and_finite() {
        let at = |policy| LogOdds::new(LogProb { policy, reference: 0.0, tokens: 1 });
        // log(1 − e^m) = log(−m) + m/2 + O(m²).
        let m = -1e-5f64;
        assert!((at(m).value - (m - (-m).ln() - m / 2.0)).abs() < 1e-9);
        assert!((at(CERTAIN * (1.0 + 1e-9)).value - at(CERTAIN * (1.0 - 1e-9)).value).abs() < 1e-8);
        for certain in [0.0, -1e-12, 1e-9] {
            assert!(at(certain).value.is_finite() && at(certain).slope <= 1.1e6);
        }
        // For vanishing p, the odds equal p.
        assert!((at(-800.0).value + 800.0).abs() < 1e-9);
        let evaluated = orpo(&Orpo::default(), &with_lengths(&[0.0, -1e5, -1e5, 0.0], &[3, 3, 0, 3]));
        assert!(evaluated.loss.is_finite() && evaluated.gradient.iter().all(|gradient| gradient.is_finite()));
    }

    proptest! {
        #[test]
        fn gradients_are_derivatives(
            at in prop::collection::vec((-20.0..-0.01f64, 1..9usize), 1..5), beta in 0.05..1.0f64,
        ) {
            let options = Orpo { beta };
            let at = at.repeat(2);
            let (policy, tokens): (Vec<_>, Vec<_>) = at.into_iter().unzip();
            let numeric = finite_differences(&policy, |policy| orpo(&options, &with_lengths(policy, &tokens)).loss);
            for (gradient, numeric) in orpo(&options, &with_lengths(&policy, &tokens)).gradient.iter().zip(numeric) {
                prop_assert!((gradient - numeric).abs() < 1e-5 * (1.0 + gradient.abs()), "{} {}", gradient, numeric);
            }
        }
    }
}
