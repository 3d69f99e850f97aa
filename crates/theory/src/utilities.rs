//! Theorem 4.2: two reward functions that differ by a function of the prompt alone have the same
//! preferences and the same optimal policy, but can have different human utility.
//!
//! The world has two prompts, one three times as frequent as the other, with three completions each
//! and rewards r(x, y). Adding h(x) changes neither σ(r(x, y) − r(x, y')) nor π*(y|x) ∝
//! π_ref(y|x)·exp(r(x, y)/β).
//!
//! The perceived value of a completion is σ(r(x, y) − z0), where the reference point z0 is the
//! policy's mean reward over all prompts. The utility is the mean value over prompts and the
//! policy's completions. If h is the same for all prompts, z0 shifts equally and the utility stays
//! the same; otherwise it changes.
//!
//! The versions of the paper differ in the value function. Version 1 has σ(r − z0) with z0 moving
//! with the reward, for any bounded reward; version 4 restricts it to rewards that maximise the
//! likelihood of the preferences; version 5 holds z0 fixed in σ(β(r − z0)), so that an equal shift
//! of all prompts changes the value, too. [`UtilityForm`] compares them.

use prospect_objective::{Dpo, PreferencePair, dpo};
use serde::{Deserialize, Serialize};

use crate::{
    gradients::sigmoid,
    tabular::{TabularPolicy, sum_by_completion},
};

/// Result for theorem 4.2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UtilityFinding {
    /// True if preferences and optimum stay the same while the utility changes.
    pub holds: bool,
    /// Rewards of each prompt's completions, before any shift.
    pub rewards: Vec<Vec<f64>>,
    /// Effect of each shift h = (+s, −s).
    pub curve: Vec<ShiftEffect>,
    /// Change of utility under the largest shift that is the same for both prompts.
    pub same_for_all: f64,
    /// Largest deviation, in probability, of DPO's optimum by descent from the closed form.
    pub error: f64,
    /// Value functions of the versions of the paper, each with both kinds of shift.
    pub forms: Vec<UtilityForm>,
    /// Difference between the likelihoods of all preferences under the reward and under the reward
    /// with the largest shift: 0 if both maximise it, as version 4 requires.
    pub likelihood_change: f64,
}

/// A value function, and what the largest shift changes under it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UtilityForm {
    /// True if z0 stays at its value before the shift (version 5), false if it moves with the
    /// reward (version 1).
    pub fixed_z0: bool,
    /// Factor of r − z0 in the value function: 1 (version 1) or β (version 5).
    pub scale: f64,
    /// True if both prompts shift equally, false if they shift in opposite directions.
    pub uniform: bool,
    /// Human utility before the shift.
    pub before: f64,
    /// Human utility after the shift.
    pub after: f64,
    /// Largest change of the value of a completion.
    pub value_change: f64,
}

/// Effect of adding h = (+s, −s) to the rewards of the two prompts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ShiftEffect {
    /// The shift s.
    pub shift: f64,
    /// Largest change of a preference probability.
    pub preference_change: f64,
    /// Largest change of a probability of DPO's optimal policy.
    pub policy_change: f64,
    /// Human utility.
    pub utility: f64,
}

const REWARDS: [[f64; 3]; 2] = [[0.2, 0.0, -0.2], [0.3, 0.1, -0.4]];
const REFERENCE: [f64; 3] = [0.5, 0.3, 0.2];
/// Frequencies of the two prompts.
const FREQUENCY: [f64; 2] = [0.75, 0.25];
/// Largest shift, in quarters.
const MAX_QUARTERS: i32 = 12;
/// Changes below this are rounding errors.
const ROUNDING: f64 = 1e-9;

/// Smallest change of utility (which is between 0 and 1) that counts as one.
const MIN_CHANGE: f64 = 0.01;

type Rewards = [[f64; 3]; 2];

/// Evaluates every shift.
pub(crate) fn check(beta: f64) -> UtilityFinding {
    let before = dpo_optima(&REWARDS, beta);
    let curve: Vec<ShiftEffect> = (-MAX_QUARTERS..=MAX_QUARTERS)
        .map(|quarters| {
            let shift = f64::from(quarters) / 4.0;
            let world = shift_rewards([shift, -shift]);
            let after = dpo_optima(&world, beta);
            ShiftEffect {
                shift,
                preference_change: max_difference(&preferences(&REWARDS), &preferences(&world)),
                policy_change: max_difference(&before, &after),
                utility: utility(&world, beta),
            }
        })
        .collect();
    let most = f64::from(MAX_QUARTERS) / 4.0;
    let same_for_all = (utility(&shift_rewards([most; 2]), beta) - utility(&REWARDS, beta)).abs();
    let closed: Vec<f64> =
        REWARDS.iter().flat_map(|rewards| optimal_policy(rewards, beta).probabilities()).collect();
    let error = max_difference(&closed, &before);
    let unchanged = |of: fn(&ShiftEffect) -> f64| curve.iter().all(|shift| of(shift) < ROUNDING);
    let largest =
        curve.iter().map(|shift| (shift.utility - utility(&REWARDS, beta)).abs()).fold(0.0, f64::max);
    let forms = forms(beta, most);
    // Only an equal shift under a moving z0 may leave all values as they are.
    let form_holds = |form: &UtilityForm| (form.value_change < ROUNDING) == (form.uniform && !form.fixed_z0);
    let likelihood_change = (likelihood(&shift_rewards([most, -most])) - likelihood(&REWARDS)).abs();
    let holds = unchanged(|shift| shift.preference_change)
        && unchanged(|shift| shift.policy_change)
        && largest > MIN_CHANGE
        && same_for_all < ROUNDING
        && forms.iter().all(form_holds)
        && likelihood_change < ROUNDING
        && error < 1e-7;
    UtilityFinding {
        holds,
        rewards: REWARDS.map(Vec::from).to_vec(),
        curve,
        same_for_all,
        error,
        forms,
        likelihood_change,
    }
}

/// Evaluates all value functions under a shift of ±`shift`.
fn forms(beta: f64, shift: f64) -> Vec<UtilityForm> {
    let mut forms = Vec::new();
    for fixed_z0 in [false, true] {
        for scale in [1.0, beta] {
            for uniform in [false, true] {
                let shifted = shift_rewards([shift, if uniform { shift } else { -shift }]);
                let z0 = if fixed_z0 { mean_reward(&REWARDS, beta) } else { mean_reward(&shifted, beta) };
                let before = values(&REWARDS, beta, scale, mean_reward(&REWARDS, beta));
                let after = values(&shifted, beta, scale, z0);
                let change = before.iter().zip(&after).map(|(before, after)| (before.1 - after.1).abs());
                forms.push(UtilityForm {
                    fixed_z0,
                    scale,
                    uniform,
                    before: weighted_mean(&before),
                    after: weighted_mean(&after),
                    value_change: change.fold(0.0, f64::max),
                });
            }
        }
    }
    forms
}

/// Returns the expected log-likelihood of the preferences of [`REWARDS`] under a reward (the
/// paper's equation 2).
fn likelihood(world: &Rewards) -> f64 {
    let terms = preferences(&REWARDS).into_iter().zip(preferences(world));
    terms.map(|(wanted, found)| wanted * found.ln()).sum()
}

fn shift_rewards(by: [f64; 2]) -> Rewards {
    let mut world = REWARDS;
    for (rewards, by) in world.iter_mut().zip(by) {
        *rewards = rewards.map(|reward| reward + by);
    }
    world
}

fn optimal_policy(rewards: &[f64; 3], beta: f64) -> TabularPolicy {
    TabularPolicy::optimal(&REFERENCE, rewards, beta)
}

/// Returns P(y ≻ y'|x) under the Bradley–Terry model, for all x, y and y'.
fn preferences(world: &Rewards) -> Vec<f64> {
    let per_prompt = |rewards: &[f64; 3]| -> Vec<f64> {
        rewards.iter().flat_map(|r| rewards.iter().map(move |other| sigmoid(r - other))).collect()
    };
    world.iter().flat_map(per_prompt).collect()
}

/// Returns, for all x and y, the probabilities of the policy that minimises DPO's loss on all
/// preferences.
fn dpo_optima(world: &Rewards, beta: f64) -> Vec<f64> {
    let per_prompt = |rewards: &[f64; 3]| {
        let judgements: Vec<(usize, usize, f64)> = (0..3)
            .flat_map(|chosen| (0..3).map(move |rejected| (chosen, rejected)))
            .filter(|(chosen, rejected)| chosen != rejected)
            .map(|(chosen, rejected)| (chosen, rejected, sigmoid(rewards[chosen] - rewards[rejected])))
            .collect();
        let sides: Vec<usize> = judgements
            .iter()
            .map(|(chosen, ..)| *chosen)
            .chain(judgements.iter().map(|(_, rejected, _)| *rejected))
            .collect();
        let policy = TabularPolicy::from_reference(&REFERENCE).descend(|log_probs, _| {
            let pairs: Vec<PreferencePair> = judgements
                .iter()
                .map(|(chosen, rejected, weight)| PreferencePair {
                    chosen: log_probs[*chosen],
                    rejected: log_probs[*rejected],
                    weight: *weight,
                })
                .collect();
            sum_by_completion(&dpo(&Dpo { beta }, &pairs), &sides, 3)
        });
        policy.probabilities()
    };
    world.iter().flat_map(per_prompt).collect()
}

/// Returns the mean value over prompts and the optimal policy's completions, with a reference point
/// that moves with the reward.
fn utility(world: &Rewards, beta: f64) -> f64 {
    weighted_mean(&values(world, beta, 1.0, mean_reward(world, beta)))
}

/// Returns the probability and the reward of every completion under the optimal policy.
fn probable_rewards(world: &Rewards, beta: f64) -> Vec<(f64, f64)> {
    let per_prompt = |(rewards, frequency): (&[f64; 3], f64)| {
        let policy = optimal_policy(rewards, beta).probabilities();
        policy.into_iter().map(move |probability| frequency * probability).zip(*rewards)
    };
    world.iter().zip(FREQUENCY).flat_map(per_prompt).collect()
}

/// Returns the optimal policy's mean reward over all prompts.
fn mean_reward(world: &Rewards, beta: f64) -> f64 {
    weighted_mean(&probable_rewards(world, beta))
}

/// Returns the probability and the value σ(scale·(r − z0)) of every completion.
fn values(world: &Rewards, beta: f64, scale: f64, z0: f64) -> Vec<(f64, f64)> {
    let value = |(probability, reward)| (probability, sigmoid(scale * (reward - z0)));
    probable_rewards(world, beta).into_iter().map(value).collect()
}

fn weighted_mean(weighted: &[(f64, f64)]) -> f64 {
    weighted.iter().map(|(probability, value)| probability * value).sum()
}

fn max_difference(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_and_optimum_stay_while_utility_changes() {
        for beta in [0.05, 0.1, 1.0] {
            let found = check(beta);
            assert!(found.holds, "{beta}: {found:?}");
            let utility = |shift: f64| found.curve.iter().find(|at| at.shift == shift).unwrap().utility;
            assert!(utility(3.0) > utility(0.0) + 0.05 && utility(0.0) > utility(-3.0) + 0.05, "{beta}");
        }
    }

    #[test]
    fn a_fixed_reference_point_makes_an_equal_shift_matter() {
        let found = check(0.1);
        let form = |fixed_z0, scale, uniform| {
            let wanted = |form: &&UtilityForm| {
                form.fixed_z0 == fixed_z0 && form.scale == scale && form.uniform == uniform
            };
            let form = found.forms.iter().find(wanted).unwrap();
            (form.before, form.after)
        };
        let near = |found: (f64, f64), wanted: f64| {
            assert!((found.0 - 0.5).abs() < 5e-5 && (found.1 - wanted).abs() < 5e-5, "{found:?} {wanted}");
        };
        // Computed independently in Python.
        near(form(false, 1.0, false), 0.6131);
        near(form(false, 1.0, true), 0.5);
        near(form(true, 1.0, true), 0.9525);
        near(form(false, 0.1, false), 0.5004);
        // The mean hardly moves at β = 0.1, the values do.
        assert!(
            found.forms.iter().any(|form| form.scale == 0.1 && !form.fixed_z0 && form.value_change > 0.03)
        );
        assert!(found.likelihood_change < 1e-12);
    }

    #[test]
    fn the_optimum_of_dpo_is_that_of_the_reward_less_divergence() {
        assert!(check(0.1).error < 1e-9);
    }
}
