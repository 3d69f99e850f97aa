//! Theorem 4.3 in version 5: a statement about the update instead of the optimum.
//!
//! A share p > ½ prefers y_a, the others y_b. KTO's default update increases log π(y_a)/π(y_b) at
//! every policy. With softmax logits, gradient descent changes it by
//! λβ(2p − 1)·(A·(1 − π_a + π_b) + B·(1 + π_a − π_b)), where A and B, the slopes of the sigmoid at
//! both completions, are positive.

use prospect_objective::{ClassWeights, Kto, Unpaired, kto};
use serde::{Deserialize, Serialize};

use crate::{
    Theory,
    tabular::{TabularPolicy, sum_by_completion},
};

/// Result for version 5 of theorem 4.3.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpdateFinding {
    /// True if the default update favours the majority's completion at every policy.
    pub holds: bool,
    /// Number of worlds and policies evaluated.
    pub updates: usize,
    /// Smallest change of log π(y_a)/π(y_b) per unit of step size, with λ_D = λ_U.
    pub least: f64,
    /// Updates that favour the minority's completion with λ_D = 1 and the configured λ_U.
    pub averse_to_majority: usize,
}

/// π_θ of the majority's completion at which updates are evaluated, besides the reference.
const POLICIES: [f64; 6] = [1e-6, 0.01, 0.1, 0.5, 0.9, 0.999];

/// Evaluates the update of every world at every policy.
pub(crate) fn check(theory: &Theory) -> UpdateFinding {
    let worlds = theory.references.iter().flat_map(|reference| {
        let policies = std::iter::once(reference).chain(&POLICIES);
        policies.flat_map(move |policy| theory.shares.iter().map(move |share| (*reference, *policy, *share)))
    });
    let worlds: Vec<(f64, f64, f64)> = worlds.collect();
    let updates = |undesirable: f64| {
        let options = Kto { beta: theory.beta, weights: ClassWeights { desirable: 1.0, undesirable } };
        worlds.iter().map(move |(reference, policy, share)| update(&options, *reference, *policy, *share))
    };
    let least = updates(1.0).fold(f64::INFINITY, f64::min);
    UpdateFinding {
        holds: least > 0.0,
        updates: worlds.len(),
        least,
        averse_to_majority: updates(theory.undesirable_weight).filter(|change| *change < 0.0).count(),
    }
}

/// Returns the change of log π(y_a)/π(y_b) under gradient descent on the logits, per unit of step
/// size. Completion 0 is the majority's.
fn update(options: &Kto, reference: f64, policy: f64, share: f64) -> f64 {
    let policy =
        TabularPolicy::from_reference(&[reference, 1.0 - reference]).moved_to(&[policy, 1.0 - policy]);
    let gradient = policy.logit_gradient(|log_probs, z0| {
        let thumb = |completion: usize, desirable, weight| Unpaired {
            log_prob: log_probs[completion],
            desirable,
            weight,
        };
        let feedback = [
            thumb(0, true, share),
            thumb(1, false, share),
            thumb(1, true, 1.0 - share),
            thumb(0, false, 1.0 - share),
        ];
        sum_by_completion(&kto(options, &[(&feedback, z0)]), &[0, 1, 1, 0], 2)
    });
    gradient[1] - gradient[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_update_always_favours_the_majority() {
        for beta in [0.01, 0.1, 0.5] {
            let found = check(&Theory { beta, ..Theory::default() });
            assert!(found.holds && found.least > 0.0, "{beta}: {found:?}");
            assert_eq!(found.updates, 4 * 7 * 7);
        }
    }

    #[test]
    fn the_update_has_the_closed_form() {
        let (beta, reference, share) = (0.1, 0.3, 0.7);
        // At the reference, z0 = 0 and both slopes are 1/4; four examples share the loss.
        let wanted = beta * (2.0 * share - 1.0) * 0.25 * 2.0 / 4.0;
        let found = update(&Kto { beta, ..Kto::default() }, reference, reference, share);
        assert!((found - wanted).abs() < 1e-15, "{found} {wanted}");
    }

    #[test]
    fn without_neutrality_some_updates_favour_the_minority() {
        assert!(check(&Theory::default()).averse_to_majority > 0);
    }
}
