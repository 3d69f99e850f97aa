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
    pub fn verdicts(&self) -> [String; 6] {
        [
            self.halo_verdict(),
            self.gradient_verdict(),
            self.utility_verdict(),
            self.contradiction_verdict(),
            self.majority_verdict(),
            self.update_verdict(),
        ]
    }

    fn halo_verdict(&self) -> String {
        let names = |wanted: bool| {
            let tests = self.halos.objectives.iter().filter(|test| test.is_halo == wanted);
            tests.map(|test| test.objective.as_str()).collect::<Vec<_>>().join("; ")
        };
        format!(
            "Theorem 3.5 {}: HALOs are {}. These are none: {}.",
            verb(self.halos.holds),
            names(true),
            names(false)
        )
    }

    fn contradiction_verdict(&self) -> String {
        let found = &self.contradiction;
        let worst = found.optima.last().map_or([0.0; 2], |optimum| optimum.values);
        let best = found.optima.first().map_or([0.0; 2], |optimum| optimum.values);
        format!(
            "Theorem 4.3 (version 1, p = ½) {}: DPO has optima at which the expected value of both humans falls from {:.2} \
             to {:.2}; KTO's loss is ½ and its gradient 0 at each of them (deviations at most {:.0e} and {:.0e}).",
            verb(found.holds),
            best[0],
            worst[0],
            found.kto_deviation,
            found.kto_gradient,
        )
    }

    fn update_verdict(&self) -> String {
        let found = &self.updates;
        format!(
            "Theorem 4.3 (version 5, update) {}: in {} worlds and policies, KTO's default update makes the majority's \
             completion relatively likelier by at least {:.1e} per unit of step size; with λ_U = {}, {} updates favour the \
             minority's.",
            verb(found.holds),
            found.updates,
            found.least,
            self.settings.undesirable_weight,
            found.averse_to_majority,
        )
    }

    fn gradient_verdict(&self) -> String {
        let found = &self.gradients;
        let quoted = found.curve.iter().find(|point| point.reward == QUOTED_REWARD);
        let kto = quoted.map_or(0.0, |point| point.kto_desirable / MAX_SLOPE);
        let dpo = quoted.map_or(0.0, |point| point.dpo);
        format!(
            "Proposition 4.1 {}: at a reward of {QUOTED_REWARD}, KTO's gradient for a desirable completion is {kto:.2e} of \
             its maximum; DPO's, for a pair ranked as wrongly, is {dpo:.6} of its maximum. KTO's gradient is below 1 % of \
             its maximum beyond ±{:.2}. Where ‖∇ log π‖ is unbounded, the update need not vanish: {:.4} in units of β.",
            verb(found.holds),
            found.hundredth_beyond,
            found.unbounded_update,
        )
    }

    fn utility_verdict(&self) -> String {
        let UtilityChanges { preference_change, policy_change, min_utility, max_utility } =
            UtilityChanges::new(&self.utilities);
        format!(
            "Theorem 4.2 {}: rewards shifted by prompt give the same preferences (change at most {preference_change:.2e}) \
             and the same DPO optimum (at most {policy_change:.2e}), yet a human utility from {min_utility:.4} to \
             {max_utility:.4} (version 1). With z0 held fixed (version 5), an equal shift of all prompts changes a value by \
             up to {:.4}.",
            verb(self.utilities.holds),
            self.utilities
                .forms
                .iter()
                .filter(|form| form.fixed_z0 && form.uniform)
                .map(|form| form.value_change)
                .fold(0.0, f64::max),
        )
    }

    fn majority_verdict(&self) -> String {
        let found = &self.majority;
        format!(
            "Theorem 4.3 (version 4, optimum) {}: of {} worlds of contradictory preferences, DPO's optimum makes the minority's completion \
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
