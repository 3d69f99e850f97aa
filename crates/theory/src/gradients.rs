//! Proposition 4.1: as the reward that a policy implies tends to either infinity, KTO's update tends to 0.
//!
//! With r = β·log(π/π_ref) and the reference point 0, a desirable completion's derivative is −λ_D·β·σ(r)·σ(−r), that of an
//! undesirable one λ_U·β·σ(r)·σ(−r): both vanish on both sides. DPO's is −β·σ(−m) of the margin m, which vanishes only
//! where the pair is already apart: the pairs that a policy ranks most wrongly pull hardest, be they hard or mislabelled.

use prospect_objective::{ClassWeights, Dpo, Kto, LogProb, Pair, Unpaired, dpo, kto};
use serde::{Deserialize, Serialize};

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gradients {
    /// Whether KTO's gradient vanishes at both ends and DPO's at one.
    pub holds: bool,
    /// The gradients at rising rewards.
    pub curve: Vec<Gradient>,
    /// KTO's gradient is below a hundredth of its greatest beyond this reward, on either side.
    pub hundredth_beyond: f64,
    /// The largest difference of KTO's gradient from λ·β·σ(r)·σ(−r), in units of β.
    pub error: f64,
}

/// Sizes of d loss / d log π of a completion, in units of β.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Gradient {
    /// β·log(π/π_ref), or the margin of a pair.
    pub reward: f64,
    /// KTO, of a desirable completion.
    pub kto_desirable: f64,
    /// KTO, of an undesirable completion.
    pub kto_undesirable: f64,
    /// DPO, of the preferred completion of a pair.
    pub dpo: f64,
}

/// The curve goes this far to both sides.
const FAR: i32 = 20;
/// What counts as nothing, and what as all, of the greatest gradient.
const NOTHING: f64 = 1e-6;

/// Evaluates the gradients.
pub(crate) fn find(beta: f64) -> Gradients {
    let curve: Vec<Gradient> =
        (-4 * FAR..=4 * FAR).map(|quarter| at(beta, f64::from(quarter) / 4.0)).collect();
    let closed = |reward: f64| sigmoid(reward) * sigmoid(-reward);
    let errors = curve.iter().flat_map(|point| {
        [point.kto_desirable, point.kto_undesirable].map(|found| (found - closed(point.reward)).abs())
    });
    let error = errors.fold(0.0, f64::max);
    let ends = [at(beta, -f64::from(FAR)), at(beta, f64::from(FAR))];
    let vanishes = ends.iter().all(|end| end.kto_desirable.max(end.kto_undesirable) < NOTHING / 4.0);
    let pulls = ends[0].dpo > 1.0 - NOTHING && ends[1].dpo < NOTHING;
    // 4·σ(r)·σ(−r) = 1/cosh²(r/2).
    let hundredth_beyond = 2.0 * 10f64.acosh();
    Gradients { holds: vanishes && pulls && error < 1e-12, curve, hundredth_beyond, error }
}

/// The gradients at one reward, from the objectives themselves.
fn at(beta: f64, reward: f64) -> Gradient {
    let log_prob = |reward: f64| LogProb { policy: reward / beta, reference: 0.0, tokens: 1 };
    let of_kto = |desirable: bool| {
        let example = Unpaired { log_prob: log_prob(reward), desirable, weight: 1.0 };
        let options = Kto { beta, weights: ClassWeights::default() };
        (kto(&options, &[(&[example], 0.0)]).gradient[0] / beta).abs()
    };
    let pair = Pair { chosen: log_prob(reward), rejected: log_prob(0.0), weight: 1.0 };
    Gradient {
        reward,
        kto_desirable: of_kto(true),
        kto_undesirable: of_kto(false),
        dpo: (dpo(&Dpo { beta }, &[pair]).gradient[0] / beta).abs(),
    }
}

/// 1 / (1 + e^−x).
pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_vanishes_at_both_ends_whatever_beta() {
        for beta in [0.01, 0.1, 0.5] {
            let found = find(beta);
            assert!(found.holds, "{beta}: {}", found.error);
            let greatest = found.curve.iter().map(|point| point.kto_desirable).fold(0.0, f64::max);
            assert!((greatest - 0.25).abs() < 1e-15);
            assert!((at(beta, found.hundredth_beyond).kto_desirable - 0.0025).abs() < 1e-12);
        }
    }

    #[test]
    fn a_pair_ranked_wrongly_pulls_hardest_under_dpo_and_not_at_all_under_kto() {
        let point = at(0.1, -20.0);
        assert!(point.dpo > 0.999_999 && point.kto_desirable < 1e-8);
    }
}
