//! Theorem 4.3: of two completions, a share p > ½ of the annotators prefers y_a, the others y_b. If
//! p^(1/β)·π_ref(y_a) < (1−p)^(1/β)·π_ref(y_b), DPO's optimal policy is more likely to produce y_b, which the minority
//! prefers; KTO's, with a loss-neutral value function (λ_D = λ_U), produces y_a alone.
//!
//! DPO's optimum is π(y_a)/π(y_b) = (p/(1−p))^(1/β)·π_ref(y_a)/π_ref(y_b). KTO sees y_a as desirable with p and undesirable
//! with 1 − p, so that its loss falls by λ·(2p − 1) times the value of y_a and rises by as much with that of y_b. With
//! λ_D ≠ λ_U the theorem says nothing; what happens then is worked out too.

use prospect_objective::{ClassWeights, Dpo, Kto, Pair, Unpaired, dpo, kto};
use serde::{Deserialize, Serialize};

use crate::{
    Theory,
    tabular::{Tabular, by_completion},
};

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Majority {
    /// Whether DPO serves the minority exactly where the theorem says so, and neutral KTO nowhere.
    pub holds: bool,
    /// Every reference with every share of the majority.
    pub cases: Vec<Case>,
    /// The largest difference of DPO's optimum by descent from the closed form.
    pub error: f64,
}

/// One world, and the probability of the completion that the majority prefers under the optimal policies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// π_ref of the completion that the majority prefers.
    pub reference: f64,
    /// p, the majority's share.
    pub share: f64,
    /// Whether the theorem's condition holds: DPO serves the minority.
    pub condition: bool,
    /// Under DPO, in closed form.
    pub dpo: f64,
    /// Under DPO, by descent.
    pub dpo_descended: f64,
    /// Under KTO with λ_D = λ_U, by descent: 1 but for rounding.
    pub kto: f64,
    /// Under KTO with λ_D = 1 and the other λ_U, by descent from the reference.
    pub kto_averse: f64,
}

impl Majority {
    /// Cases in which the minority's completion is the likelier one, by the probability of the majority's.
    pub fn lost(&self, of: fn(&Case) -> f64) -> usize {
        self.cases.iter().filter(|case| of(case) < 0.5).count()
    }
}

/// Works out every world.
pub(crate) fn find(theory: &Theory) -> Majority {
    let cases: Vec<Case> = theory
        .references
        .iter()
        .flat_map(|reference| theory.shares.iter().map(move |share| case(theory, *reference, *share)))
        .collect();
    let error = cases.iter().map(|case| (case.dpo - case.dpo_descended).abs()).fold(0.0, f64::max);
    let holds = cases.iter().all(|case| case.condition == (case.dpo < 0.5) && case.kto > 1.0 - 1e-6);
    Majority { holds: holds && error < 1e-7, cases, error }
}

fn case(theory: &Theory, reference: f64, share: f64) -> Case {
    let beta = theory.beta;
    // In logarithms, since powers of 1/β are far apart.
    let advantage = share.ln() / beta + reference.ln() - (1.0 - share).ln() / beta - (1.0 - reference).ln();
    let under_kto = |undesirable: f64| {
        descend_kto(&Kto { beta, weights: ClassWeights { desirable: 1.0, undesirable } }, reference, share)
    };
    Case {
        reference,
        share,
        condition: advantage < 0.0,
        dpo: 1.0 / (1.0 + (-advantage).exp()),
        dpo_descended: descend_dpo(beta, reference, share),
        kto: under_kto(1.0),
        kto_averse: under_kto(theory.undesirable_weight),
    }
}

/// The majority's completion is number 0.
fn descend_dpo(beta: f64, reference: f64, share: f64) -> f64 {
    let policy = Tabular::at(&[reference, 1.0 - reference]).descend(|log_probs, _| {
        let pair = |chosen: usize, weight| Pair {
            chosen: log_probs[chosen],
            rejected: log_probs[1 - chosen],
            weight,
        };
        let evaluated = dpo(&Dpo { beta }, &[pair(0, share), pair(1, 1.0 - share)]);
        by_completion(&evaluated, &[0, 1, 1, 0], 2)
    });
    policy.probabilities()[0]
}

fn descend_kto(options: &Kto, reference: f64, share: f64) -> f64 {
    let policy = Tabular::at(&[reference, 1.0 - reference]).descend(|log_probs, z0| {
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
        by_completion(&kto(options, &[(&feedback, z0)]), &[0, 1, 1, 0], 2)
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
        assert!(found.lost(|case| case.dpo) > 0 && found.lost(|case| case.dpo) < found.cases.len());
        assert_eq!(found.lost(|case| case.kto), 0);
    }

    #[test]
    fn the_border_is_where_powers_of_the_odds_meet_the_reference() {
        // (0.6/0.4)^10 = 57.7: at a reference of 1 to 57 the majority is still served, at 1 to 58 no more.
        let theory = Theory::default();
        assert!(case(&theory, 1.0 / 58.0, 0.6).dpo > 0.5 && !case(&theory, 1.0 / 58.0, 0.6).condition);
        assert!(case(&theory, 1.0 / 59.0, 0.6).dpo < 0.5 && case(&theory, 1.0 / 59.0, 0.6).condition);
    }

    #[test]
    fn without_neutrality_the_minority_may_be_served() {
        // λ_U = 1.5 turns both completions down while p < 0.6: what was likelier wins.
        let theory = Theory::default();
        assert!(case(&theory, 0.1, 0.55).kto_averse < 1e-6);
        assert!(case(&theory, 0.1, 0.65).kto_averse > 1.0 - 1e-6);
    }
}
