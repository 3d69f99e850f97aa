//! Direct preference optimisation (DPO), and the objectives that, like it, depend only on a pair's
//! margin β(c − r).

use serde::Serialize;

use crate::{
    BatchLoss, LogProb, PreferencePair,
    math::{log_sigmoid, sigmoid},
    pair::{PairLoss, mean_over_pairs},
};

/// Settings of DPO.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Dpo {
    /// β: strength of the KL penalty towards the reference.
    pub beta: f64,
}

impl Default for Dpo {
    fn default() -> Self {
        Self { beta: 0.1 }
    }
}

/// Settings of the DPO variants that expect some labels to be flipped.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SmoothedDpo {
    /// β: strength of the KL penalty towards the reference.
    pub beta: f64,
    /// ε: expected share of flipped pairs, at least 0 and below 1/2.
    pub label_smoothing: f64,
}

impl Default for SmoothedDpo {
    fn default() -> Self {
        Self { beta: 0.1, label_smoothing: 0.1 }
    }
}

/// Settings of the hinge loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Hinge {
    /// β: pairs whose log-ratio margin exceeds 1/β (in nats) have no loss.
    pub beta: f64,
}

impl Default for Hinge {
    fn default() -> Self {
        Self { beta: 0.1 }
    }
}

/// DPO (arXiv 2305.18290, equation 7): the mean over pairs of −w·log σ(x), where x = β(c − r) is
/// the margin of the log-ratios.
pub fn dpo(options: &Dpo, pairs: &[PreferencePair]) -> BatchLoss {
    margin_loss(options.beta, pairs, |x| (-log_sigmoid(x), -sigmoid(-x)))
}

/// Conservative DPO (Mitchell 2023, <https://ericmitchell.ai/cdpo.pdf>, equation 3):
/// −(1 − ε)·log σ(x) − ε·log σ(−x).
///
/// The optimum is the margin at which σ(x) = 1 − ε; larger margins are pulled back.
pub fn cdpo(options: &SmoothedDpo, pairs: &[PreferencePair]) -> BatchLoss {
    let epsilon = options.label_smoothing;
    margin_loss(options.beta, pairs, |x| {
        let loss = -(1.0 - epsilon) * log_sigmoid(x) - epsilon * log_sigmoid(-x);
        (loss, -(1.0 - epsilon) * sigmoid(-x) + epsilon * sigmoid(x))
    })
}

/// Robust DPO (arXiv 2403.00409, equation 12): (−(1 − ε)·log σ(x) + ε·log σ(−x))/(1 − 2ε).
///
/// Its expectation over flips at rate ε is DPO's loss on clean pairs.
pub fn robust_dpo(options: &SmoothedDpo, pairs: &[PreferencePair]) -> BatchLoss {
    let epsilon = options.label_smoothing;
    let scale = 1.0 / (1.0 - 2.0 * epsilon);
    margin_loss(options.beta, pairs, |x| {
        let loss = -(1.0 - epsilon) * log_sigmoid(x) + epsilon * log_sigmoid(-x);
        (scale * loss, -scale * ((1.0 - epsilon) * sigmoid(-x) + epsilon * sigmoid(x)))
    })
}

/// Hinge loss on DPO's margin (arXiv 2309.06657, section 3.2): max(0, 1 − x).
pub fn hinge(options: &Hinge, pairs: &[PreferencePair]) -> BatchLoss {
    margin_loss(options.beta, pairs, |x| if x < 1.0 { (1.0 - x, -1.0) } else { (0.0, 0.0) })
}

/// Averages a loss of the margin β(c − r) over the pairs.
fn margin_loss(beta: f64, pairs: &[PreferencePair], loss_and_slope: impl Fn(f64) -> (f64, f64)) -> BatchLoss {
    let reward = |log_prob: LogProb| beta * log_prob.ratio();
    mean_over_pairs(pairs, reward, |pair| {
        let (loss, slope) = loss_and_slope(beta * (pair.chosen.ratio() - pair.rejected.ratio()));
        PairLoss { loss, chosen: beta * slope, rejected: -beta * slope }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{math::finite_differences, pair::tests::pairs};

    const GOLDEN: [f64; 4] = [2.0, -1.0, 0.5, 3.0];

    #[test]
    fn golden_values() {
        let pairs = pairs(&GOLDEN);
        let smoothed = |label_smoothing| SmoothedDpo { label_smoothing, ..SmoothedDpo::default() };
        for (name, evaluated, loss) in [
            ("dpo", dpo(&Dpo::default(), &pairs), 0.766_986_150_1),
            ("hinge", hinge(&Hinge::default(), &pairs), 1.125),
            ("cdpo", cdpo(&smoothed(0.2), &pairs), 0.741_986_150_1),
            ("robust_dpo", robust_dpo(&smoothed(0.1), &pairs), 0.782_611_150_1),
        ] {
            assert!((evaluated.loss - loss).abs() < 1e-10, "{name}: {}", evaluated.loss);
            assert_eq!(evaluated.metrics.rewards_accuracies, Some(0.5));
            assert!((evaluated.metrics.rewards_margins.unwrap() + 0.125).abs() < 1e-12);
        }
    }

    #[test]
    fn at_the_start_the_loss_is_ln_2() {
        let pairs = pairs(&[0.0, 0.0]);
        assert_eq!(dpo(&Dpo::default(), &pairs).loss, std::f64::consts::LN_2);
        assert_eq!(dpo(&Dpo::default(), &pairs).metrics.rewards_accuracies, Some(0.5));
        assert_eq!(hinge(&Hinge::default(), &pairs).loss, 1.0);
    }

    #[test]
    fn extreme_margins_stay_finite() {
        let pairs = pairs(&[1e5, -1e5, -1e5, 1e5]);
        let smoothed = SmoothedDpo::default();
        for evaluated in [
            dpo(&Dpo::default(), &pairs),
            cdpo(&smoothed, &pairs),
            robust_dpo(&smoothed, &pairs),
            hinge(&Hinge::default(), &pairs),
        ] {
            assert!(evaluated.loss.is_finite());
            assert!(evaluated.gradient.iter().all(|gradient| gradient.is_finite()));
        }
        // Pairs beyond the margin have no gradient.
        let settled = dpo(&Dpo::default(), &super::super::pair::tests::pairs(&[400.0, 0.0])).gradient;
        assert!(settled.iter().all(|gradient| gradient.abs() < 1e-16));
    }

    #[test]
    fn robust_dpo_is_dpo_on_average_over_flips() {
        let (epsilon, options) = (0.3, SmoothedDpo { label_smoothing: 0.3, beta: 0.5 });
        let (right, wrong) = (pairs(&[1.2, -0.4]), pairs(&[-0.4, 1.2]));
        let mean =
            (1.0 - epsilon) * robust_dpo(&options, &right).loss + epsilon * robust_dpo(&options, &wrong).loss;
        assert!((mean - dpo(&Dpo { beta: 0.5 }, &right).loss).abs() < 1e-12);
    }

    type Loss<'a> = &'a dyn Fn(&[PreferencePair]) -> BatchLoss;

    proptest! {
        #[test]
        fn gradients_are_derivatives(
            at in prop::collection::vec((-20.0..20.0f64, -20.0..20.0f64), 1..6),
            (beta, label_smoothing) in (0.01..1.0f64, 0.0..0.45f64),
        ) {
            let at: Vec<_> = at.iter().map(|pair| pair.0).chain(at.iter().map(|pair| pair.1)).collect();
            let smoothed = SmoothedDpo { beta, label_smoothing };
            let losses: [Loss<'_>; 4] = [
                &|pairs| dpo(&Dpo { beta }, pairs),
                &|pairs| cdpo(&smoothed, pairs),
                &|pairs| robust_dpo(&smoothed, pairs),
                &|pairs| hinge(&Hinge { beta }, pairs),
            ];
            let bent = pairs(&at).iter().any(|pair| {
                (1.0 - beta * (pair.chosen.ratio() - pair.rejected.ratio())).abs() < 1e-3
            });
            for evaluate in &losses[..if bent { 3 } else { 4 }] {
                let numeric = finite_differences(&at, |ratios| evaluate(&pairs(ratios)).loss);
                for (gradient, numeric) in evaluate(&pairs(&at)).gradient.iter().zip(numeric) {
                    prop_assert!((gradient - numeric).abs() < 1e-7, "{} {}", gradient, numeric);
                }
            }
        }
    }
}
