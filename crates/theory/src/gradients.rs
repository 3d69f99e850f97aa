//! Proposition 4.1: KTO's update vanishes as the implied reward tends to ±∞.
//!
//! Version 1 states that KTO does not learn from undesirable examples with sufficiently high
//! rewards, or desirable ones with sufficiently low rewards; versions 3 and 4 state the limit;
//! version 5 adds that ‖∇ log π‖ must be bounded. The bound holds for the logits of a softmax, and
//! the limit with it. It fails for a parameter u whose log-ratio grows like dℓ/du = e^(β|ℓ|): there
//! the update tends to β instead of 0.
//!
//! With r = β·log(π/π_ref) and the reference point 0, the gradient is −λ_D·β·σ(r)·σ(−r) for a
//! desirable and λ_U·β·σ(r)·σ(−r) for an undesirable completion. Both vanish on both sides. DPO's
//! gradient is −β·σ(−m) for a margin m. It vanishes only for pairs that are already separated; the
//! pairs that a policy ranks most wrongly pull hardest, whether they are hard or mislabelled.

use prospect_objective::{ClassWeights, Dpo, Kto, LogProb, PreferencePair, Unpaired, dpo, kto};
use serde::{Deserialize, Serialize};

/// Result for proposition 4.1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GradientFinding {
    /// True if KTO's gradient vanishes on both sides and DPO's on one, in every version's form.
    pub holds: bool,
    /// Gradients at increasing rewards.
    pub curve: Vec<GradientPoint>,
    /// Absolute reward beyond which KTO's gradient is below 1 % of its maximum.
    pub hundredth_beyond: f64,
    /// Largest deviation of KTO's gradient from λ·β·σ(r)·σ(−r), in units of β.
    pub error: f64,
    /// Largest update of a softmax's logits at the extreme rewards, in units of β: version 5's
    /// proviso holds.
    pub bounded_update: f64,
    /// Smallest update at the extreme rewards of a parameter that violates the proviso, in units of
    /// β.
    pub unbounded_update: f64,
}

/// Absolute values of d loss / d log π of a completion, in units of β.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GradientPoint {
    /// Implied reward β·log(π/π_ref), or the margin of a pair.
    pub reward: f64,
    /// KTO, desirable completion.
    pub kto_desirable: f64,
    /// KTO, undesirable completion.
    pub kto_undesirable: f64,
    /// DPO, preferred completion of a pair.
    pub dpo: f64,
}

/// Largest absolute reward on the curve.
const MAX_REWARD: i32 = 20;
/// Maximum of σ(r)·σ(−r), at r = 0.
const MAX_SLOPE: f64 = 0.25;
/// Relative size below which a gradient counts as vanished.
const VANISHED: f64 = 1e-6;

/// Evaluates the gradients.
pub(crate) fn check(beta: f64) -> GradientFinding {
    let curve: Vec<GradientPoint> =
        (-4 * MAX_REWARD..=4 * MAX_REWARD).map(|quarter| at(beta, f64::from(quarter) / 4.0)).collect();
    let closed_form = |reward: f64| sigmoid(reward) * sigmoid(-reward);
    let errors = curve.iter().flat_map(|point| {
        [point.kto_desirable, point.kto_undesirable].map(|found| (found - closed_form(point.reward)).abs())
    });
    let error = errors.fold(0.0, f64::max);
    let extremes = [at(beta, -f64::from(MAX_REWARD)), at(beta, f64::from(MAX_REWARD))];
    let kto_vanishes = extremes.iter().all(|end| end.kto_desirable.max(end.kto_undesirable) < VANISHED / 4.0);
    let dpo_pulls = extremes[0].dpo > 1.0 - VANISHED && extremes[1].dpo < VANISHED;
    // ‖∇ log π‖ ≤ √2 over the logits of a softmax: 1 − π for the completion, and at most 1 − π for
    // all others together.
    let bounded_update = std::f64::consts::SQRT_2
        * extremes.iter().map(|end| end.kto_desirable.max(end.kto_undesirable)).fold(0.0, f64::max);
    let unbounded =
        extremes.iter().map(|end| end.kto_desirable.min(end.kto_undesirable) * end.reward.abs().exp());
    let unbounded_update = unbounded.fold(f64::INFINITY, f64::min);
    // Solves 4·σ(r)·σ(−r) = 1/cosh²(r/2) = 1/100.
    let hundredth_beyond = 2.0 * 10f64.acosh();
    let proviso_matters = bounded_update < VANISHED && unbounded_update > MAX_SLOPE;
    GradientFinding {
        holds: kto_vanishes && dpo_pulls && proviso_matters && error < 1e-12,
        curve,
        hundredth_beyond,
        error,
        bounded_update,
        unbounded_update,
    }
}

/// Computes the gradients at one reward with the objectives themselves.
fn at(beta: f64, reward: f64) -> GradientPoint {
    let log_prob = |reward: f64| LogProb { policy: reward / beta, reference: 0.0, tokens: 1 };
    let kto_gradient = |desirable: bool| {
        let example = Unpaired { log_prob: log_prob(reward), desirable, weight: 1.0 };
        let options = Kto { beta, weights: ClassWeights::default() };
        (kto(&options, &[(&[example], 0.0)]).gradient[0] / beta).abs()
    };
    let pair = PreferencePair { chosen: log_prob(reward), rejected: log_prob(0.0), weight: 1.0 };
    GradientPoint {
        reward,
        kto_desirable: kto_gradient(true),
        kto_undesirable: kto_gradient(false),
        dpo: (dpo(&Dpo { beta }, &[pair]).gradient[0] / beta).abs(),
    }
}

/// Computes σ(x) = 1 / (1 + e^−x).
pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_vanishes_at_both_ends_whatever_beta() {
        for beta in [0.01, 0.1, 0.5] {
            let found = check(beta);
            assert!(found.holds, "{beta}: {}", found.error);
            let greatest = found.curve.iter().map(|point| point.kto_desirable).fold(0.0, f64::max);
            assert!((greatest - 0.25).abs() < 1e-15);
            assert!((at(beta, found.hundredth_beyond).kto_desirable - 0.0025).abs() < 1e-12);
        }
    }

    #[test]
    fn the_update_does_not_vanish_where_the_gradient_of_the_policy_is_unbounded() {
        let found = check(0.1);
        assert!(found.bounded_update < 1e-7, "{}", found.bounded_update);
        // σ(r)·σ(−r)·e^|r| tends to 1.
        assert!((found.unbounded_update - 1.0).abs() < 1e-8, "{}", found.unbounded_update);
    }

    #[test]
    fn a_pair_ranked_wrongly_pulls_hardest_under_dpo_and_not_at_all_under_kto() {
        let point = at(0.1, -20.0);
        assert!(point.dpo > 0.999_999 && point.kto_desirable < 1e-8);
    }
}
