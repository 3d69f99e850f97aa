//! Theorem 4.3 in version 4: optima under contradictory preferences. A share p > ½ of the
//! annotators prefers completion y_a, the others y_b.
//!
//! If p^(1/β)·π_ref(y_a) < (1−p)^(1/β)·π_ref(y_b), DPO's optimal policy is more likely to produce
//! y_b, the minority's choice. KTO with a loss-neutral value function (λ_D = λ_U) produces only
//! y_a.
//!
//! DPO's optimum is π(y_a)/π(y_b) = (p/(1−p))^(1/β)·π_ref(y_a)/π_ref(y_b). KTO sees y_a as
//! desirable with probability p and undesirable with 1 − p. Its loss therefore falls by λ·(2p − 1)
//! times the value of y_a, and rises by the same factor times that of y_b. The theorem makes no
//! claim for λ_D ≠ λ_U; that case is computed too.

use prospect_objective::{ClassWeights, Dpo, Kto, PreferencePair, Unpaired, dpo, kto};
use serde::{Deserialize, Serialize};

use crate::{
    Theory,
    tabular::{TabularPolicy, sum_by_completion},
};

/// Result for theorem 4.3.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MajorityFinding {
    /// True if DPO favours the minority exactly where the theorem says so, and neutral KTO never
    /// does.
    pub holds: bool,
    /// Results for every combination of reference and majority share.
    pub cases: Vec<MajorityCase>,
    /// Largest deviation of DPO's optimum by descent from the closed form.
    pub error: f64,
}

/// A world, with the probability of the majority's completion under each optimal policy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MajorityCase {
    /// π_ref of the majority's completion.
    pub reference: f64,
    /// p, the majority's share.
    pub share: f64,
    /// True if the theorem's condition holds, so that DPO favours the minority.
    pub condition: bool,
    /// Optimum of DPO in closed form.
    pub dpo: f64,
    /// Optimum of DPO by gradient descent.
    pub dpo_descended: f64,
    /// Optimum of KTO with λ_D = λ_U by gradient descent: 1 up to rounding.
    pub kto: f64,
    /// Optimum of KTO with λ_D = 1 and the configured λ_U, by gradient descent from the reference.
    pub kto_averse: f64,
}

impl MajorityFinding {
    /// Counts the cases in which the minority's completion is the likelier one, given the
    /// `probability` of the majority's.
    pub(crate) fn minority_wins(&self, probability: fn(&MajorityCase) -> f64) -> usize {
        self.cases.iter().filter(|case| probability(case) < 0.5).count()
    }
}

/// Evaluates every world.
pub(crate) fn check(theory: &Theory) -> MajorityFinding {
    let cases: Vec<MajorityCase> = theory
        .references
        .iter()
        .flat_map(|reference| theory.shares.iter().map(move |share| case(theory, *reference, *share)))
        .collect();
    let error = cases.iter().map(|case| (case.dpo - case.dpo_descended).abs()).fold(0.0, f64::max);
    let holds = cases.iter().all(|case| case.condition == (case.dpo < 0.5) && case.kto > 1.0 - 1e-6);
    MajorityFinding { holds: holds && error < 1e-7, cases, error }
}

fn case(theory: &Theory, reference: f64, share: f64) -> MajorityCase {
    let beta = theory.beta;
    // Logarithms keep powers of 1/β in range.
    let advantage = share.ln() / beta + reference.ln() - (1.0 - share).ln() / beta - (1.0 - reference).ln();
    let under_kto = |undesirable: f64| {
        descend_kto(&Kto { beta, weights: ClassWeights { desirable: 1.0, undesirable } }, reference, share)
    };
    MajorityCase {
        reference,
        share,
        condition: advantage < 0.0,
        dpo: 1.0 / (1.0 + (-advantage).exp()),
        dpo_descended: descend_dpo(beta, reference, share),
        kto: under_kto(1.0),
        kto_averse: under_kto(theory.undesirable_weight),
    }
}

// In both descents, completion 0 is the majority's.
fn descend_dpo(beta: f64, reference: f64, share: f64) -> f64 {
    let policy = TabularPolicy::from_reference(&[reference, 1.0 - reference]).descend(|log_probs, _| {
        let pair = |chosen: usize, weight| PreferencePair {
            chosen: log_probs[chosen],
            rejected: log_probs[1 - chosen],
            weight,
        };
        let evaluated = dpo(&Dpo { beta }, &[pair(0, share), pair(1, 1.0 - share)]);
        sum_by_completion(&evaluated, &[0, 1, 1, 0], 2)
    });
    policy.probabilities()[0]
}

fn descend_kto(options: &Kto, reference: f64, share: f64) -> f64 {
    let policy = TabularPolicy::from_reference(&[reference, 1.0 - reference]).descend(|log_probs, z0| {
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
    policy.probabilities()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neutral_kto_serves_the_majority_and_dpo_only_where_the_theorem_lets_it() {
        let found = Theory::default().findings().majority;
        assert!(found.holds, "{found:?}");
        assert!(
            found.minority_wins(|case| case.dpo) > 0
                && found.minority_wins(|case| case.dpo) < found.cases.len()
        );
        assert_eq!(found.minority_wins(|case| case.kto), 0);
    }

    #[test]
    fn the_border_is_where_powers_of_the_odds_meet_the_reference() {
        // (0.6/0.4)^10 = 57.7: the majority wins at a reference of 1 to 57, and no longer at 1 to
        // 58.
        let theory = Theory::default();
        assert!(case(&theory, 1.0 / 58.0, 0.6).dpo > 0.5 && !case(&theory, 1.0 / 58.0, 0.6).condition);
        assert!(case(&theory, 1.0 / 59.0, 0.6).dpo < 0.5 && case(&theory, 1.0 / 59.0, 0.6).condition);
    }

    #[test]
    fn without_neutrality_the_minority_may_be_served() {
        // λ_U = 1.5 penalises both completions while p < 0.6; the likelier one wins.
        let theory = Theory::default();
        assert!(case(&theory, 0.1, 0.55).kto_averse < 1e-6);
        assert!(case(&theory, 0.1, 0.65).kto_averse > 1.0 - 1e-6);
    }
}
