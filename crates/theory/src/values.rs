//! Value functions that objectives imply (figure 1 of the paper): minus the loss, as a function of
//! the reward z of a desirable completion relative to the reference point.
//!
//! Kahneman and Tversky's own value function is z^α for gains and −λ·(−z)^α for losses, with the
//! median human's α = 0.88 and λ = 2.25.

use prospect_objective::{Dpo, Hinge, Ipo, Kto, LogProb, PreferencePair, Unpaired, dpo, hinge, ipo, kto};
use serde::{Deserialize, Serialize};

use crate::clip;

/// An implied value function, shifted to 0 at the reference point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValueCurve {
    /// Objective.
    pub objective: String,
    /// Rewards and values.
    pub points: Vec<(f64, f64)>,
}

/// Exponent of Kahneman and Tversky's value function.
const ALPHA: f64 = 0.88;
/// Loss aversion of Kahneman and Tversky's value function.
const AVERSION: f64 = 2.25;
/// Largest reward, in tenths.
const MAX_TENTHS: i32 = 40;

/// Returns the curves, in the order of the legend.
pub(crate) fn curves() -> Vec<ValueCurve> {
    let functions: [(&str, fn(f64) -> f64); 6] = [
        ("Kahneman–Tversky", kahneman_tversky),
        ("KTO", |z| -kto(&Kto { beta: 1.0, ..Kto::default() }, &[(&[thumb(z)], 0.0)]).loss),
        ("DPO", |z| -dpo(&Dpo { beta: 1.0 }, &[pair(z)]).loss),
        ("PPO-Clip", |z| -clip::loss(z, 1.0)),
        ("hinge", |z| -hinge(&Hinge { beta: 1.0 }, &[pair(z)]).loss),
        ("IPO", |z| -ipo(&Ipo { beta: 1.0 }, &[pair(z)]).loss),
    ];
    let curve = |(objective, value): (&str, fn(f64) -> f64)| {
        let points = (-MAX_TENTHS..=MAX_TENTHS).map(|tenths| f64::from(tenths) / 10.0);
        ValueCurve {
            objective: objective.to_owned(),
            points: points.map(|z| (z, value(z) - value(0.0))).collect(),
        }
    };
    functions.into_iter().map(curve).collect()
}

fn kahneman_tversky(z: f64) -> f64 {
    if z < 0.0 { -AVERSION * (-z).powf(ALPHA) } else { z.powf(ALPHA) }
}

fn at(z: f64) -> LogProb {
    LogProb { policy: z, reference: 0.0, tokens: 1 }
}

fn thumb(z: f64) -> Unpaired {
    Unpaired { log_prob: at(z), desirable: true, weight: 1.0 }
}

fn pair(z: f64) -> PreferencePair {
    PreferencePair { chosen: at(z), rejected: at(0.0), weight: 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(objective: &str, z: f64) -> f64 {
        let curve = curves().into_iter().find(|curve| curve.objective == objective).unwrap();
        curve.points.into_iter().find(|(at, _)| *at == z).unwrap().1
    }

    #[test]
    fn values_are_those_of_the_formulas() {
        let sigmoid = |z: f64| 1.0 / (1.0 + (-z).exp());
        assert!((value("KTO", 2.0) - (sigmoid(2.0) - 0.5)).abs() < 1e-15);
        assert!((value("DPO", -2.0) - (sigmoid(-2.0).ln() + 2f64.ln())).abs() < 1e-15);
        assert!((value("Kahneman–Tversky", -3.0) + 2.25 * 3f64.powf(0.88)).abs() < 1e-15);
        assert!((value("PPO-Clip", 4.0) - 3.0).abs() < 1e-15);
        assert_eq!([value("hinge", 4.0), value("hinge", -1.0)], [1.0, -1.0]);
        // IPO's value is greatest at a margin of 1/(2β).
        assert!(value("IPO", 0.5) > value("IPO", 1.0));
    }

    #[test]
    fn only_kto_saturates_in_losses() {
        let slope = |objective| value(objective, -3.9) - value(objective, -4.0);
        assert!(slope("KTO") < 0.003 && slope("DPO") > 0.09 && slope("Kahneman–Tversky") > 0.09);
    }
}
