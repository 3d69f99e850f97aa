//! Findings as sentences.

use crate::{Findings, utilities::UtilityFinding};

/// Reward at which the gradients are quoted.
const QUOTED_REWARD: f64 = -20.0;
/// Maximum of σ(r)·σ(−r), to which KTO's gradient is proportional.
const MAX_SLOPE: f64 = 0.25;

/// Largest changes over all shifts of the reward, and the range of the utility.
struct UtilityChanges {
    preference_change: f64,
    policy_change: f64,
    min_utility: f64,
    max_utility: f64,
}

impl UtilityChanges {
    fn new(found: &UtilityFinding) -> Self {
        let start = Self {
            preference_change: 0.0,
            policy_change: 0.0,
            min_utility: f64::INFINITY,
            max_utility: f64::NEG_INFINITY,
        };
        found.curve.iter().fold(start, |so_far, shift| Self {
            preference_change: shift.preference_change.max(so_far.preference_change),
            policy_change: shift.policy_change.max(so_far.policy_change),
            min_utility: shift.utility.min(so_far.min_utility),
            max_utility: shift.utility.max(so_far.max_utility),
        })
    }
}

impl Findings {
    /// Describes the finding on each proposition, in the order of the paper.
    pub fn verdicts(&self) -> [String; 3] {
        [self.gradient_verdict(), self.utility_verdict(), self.majority_verdict()]
    }

    fn gradient_verdict(&self) -> String {
        let found = &self.gradients;
        let quoted = found.curve.iter().find(|point| point.reward == QUOTED_REWARD);
        let kto = quoted.map_or(0.0, |point| point.kto_desirable / MAX_SLOPE);
        let dpo = quoted.map_or(0.0, |point| point.dpo);
        format!(
            "Proposition 4.1 {}: at a reward of {QUOTED_REWARD}, KTO's gradient for a desirable completion is {kto:.2e} of \
             its maximum; DPO's, for a pair ranked as wrongly, is {dpo:.6} of its maximum. KTO's gradient is below 1 % of \
             its maximum beyond ±{:.2}.",
            verb(found.holds),
            found.hundredth_beyond,
        )
    }

    fn utility_verdict(&self) -> String {
        let UtilityChanges { preference_change, policy_change, min_utility, max_utility } =
            UtilityChanges::new(&self.utilities);
        format!(
            "Theorem 4.2 {}: rewards shifted by prompt give the same preferences (change at most {preference_change:.2e}) \
             and the same DPO optimum (at most {policy_change:.2e}), yet a human utility from {min_utility:.4} to \
             {max_utility:.4}.",
            verb(self.utilities.holds),
        )
    }

    fn majority_verdict(&self) -> String {
        let found = &self.majority;
        format!(
            "Theorem 4.3 {}: of {} worlds of contradictory preferences, DPO's optimum makes the minority's completion \
             likelier in {}, exactly those that the theorem names; loss-neutral KTO in {}; KTO with λ_U = {} in {}.",
            verb(found.holds),
            found.cases.len(),
            found.minority_wins(|case| case.dpo),
            found.minority_wins(|case| case.kto),
            self.settings.undesirable_weight,
            found.minority_wins(|case| case.kto_averse),
        )
    }
}

fn verb(holds: bool) -> &'static str {
    if holds { "holds" } else { "does not hold" }
}
