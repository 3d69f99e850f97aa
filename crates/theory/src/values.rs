//! Value functions that objectives imply (figure 1 of the paper): minus the loss, as a function of
//! the reward z of a desirable completion relative to the reference point. Curves are 0 at the
//! reference point and scaled to 1 at a reward of 1: a HALO leaves both free.
//!
//! Kahneman and Tversky's own value function is z^α for gains and −λ·(−z)^α for losses, with the
//! median human's α = 0.88 and λ = 2.25.

use prospect_objective::{Dpo, Hinge, Kto, LogProb, PreferencePair, Unpaired, dpo, hinge, kto};
use serde::{Deserialize, Serialize};

use crate::clip;

/// An implied value function, 0 at the reference point and 1 at a reward of 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValueCurve {
    /// Objective.
    pub objective: String,
    /// Rewards and values.
    pub points: Vec<(f64, f64)>,
}

/// Value at a reward.
type Value = fn(f64) -> f64;

/// Exponent of Kahneman and Tversky's value function.
const ALPHA: f64 = 0.88;
/// Loss aversion of Kahneman and Tversky's value function.
const AVERSION: f64 = 2.25;
/// Largest reward, in tenths.
const MAX_TENTHS: i32 = 40;

/// Returns the curves, in the order of the legend.
pub(crate) fn curves() -> Vec<ValueCurve> {
    let functions: [(&str, Value); 5] = [
        ("Kahneman–Tversky", kahneman_tversky),
        ("KTO", |z| -kto(&Kto { beta: 1.0, ..Kto::default() }, &[(&[thumb(z)], 0.0)]).loss),
        ("DPO", |z| -dpo(&Dpo { beta: 1.0 }, &[pair(z)]).loss),
        ("PPO-Clip", |z| -clip::loss(z, 1.0)),
        ("hinge", |z| -hinge(&Hinge { beta: 1.0 }, &[pair(z)]).loss),
    ];
    let curve = |(objective, value): (&str, Value)| {
        let points = (-MAX_TENTHS..=MAX_TENTHS).map(|tenths| f64::from(tenths) / 10.0);
        ValueCurve {
            objective: objective.to_owned(),
            points: points.map(|z| (z, (value(z) - value(0.0)) / (value(1.0) - value(0.0)))).collect(),
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
        let near = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-14, "{found} {wanted}");
        near(value("KTO", 2.0), (sigmoid(2.0) - 0.5) / (sigmoid(1.0) - 0.5));
        near(value("DPO", -2.0), (sigmoid(-2.0).ln() + 2f64.ln()) / (sigmoid(1.0).ln() + 2f64.ln()));
        near(value("Kahneman–Tversky", -3.0), -2.25 * 3f64.powf(0.88));
        near(value("PPO-Clip", 4.0), 3.0 / (1f64.exp() - 1.0));
        assert_eq!([value("hinge", 4.0), value("hinge", -1.0)], [1.0, -1.0]);
    }

    #[test]
    fn kto_saturates_in_losses_and_dpo_does_not() {
        let slope = |objective| value(objective, -3.9) - value(objective, -4.0);
        assert!(slope("KTO") < 0.01 && slope("DPO") > 0.2 && slope("Kahneman–Tversky") > 0.1);
    }
}
