//! Theorem 4.2: a reward function and another one that differs from it by a function of the prompt alone have the same
//! preferences and the same optimal policy, but may have a different human utility.
//!
//! Two prompts, one three times as frequent as the other, with three completions each have rewards r(x, y). Adding h(x)
//! leaves σ(r(x, y) − r(x, y')) and π*(y|x) ∝ π_ref(y|x)·exp(r(x, y)/β) as they are. The value that people see in a completion
//! is σ(r(x, y) − z0) with the mean reward of the policy over all prompts for a reference point z0, and the utility its mean
//! over prompts and completions of the policy. If h is the same for all prompts, z0 moves along and nothing changes; else it
//! does.

use prospect_objective::{Dpo, Pair, dpo};
use serde::{Deserialize, Serialize};

use crate::{
    gradients::sigmoid,
    tabular::{Tabular, by_completion},
};

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Utilities {
    /// Whether preferences and optimum stay while the utility changes.
    pub holds: bool,
    /// Rewards of the completions of each prompt, before any shift.
    pub rewards: Vec<Vec<f64>>,
    /// For each shift h = (+s, −s): what it does.
    pub curve: Vec<Shift>,
    /// The change of utility by the largest shift that is the same for both prompts.
    pub same_for_all: f64,
    /// The largest difference, in probability, of DPO's optimum by descent from the closed form.
    pub error: f64,
}

/// What adding h = (+s, −s) to the rewards of the two prompts does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    /// s.
    pub shift: f64,
    /// The largest change of a preference probability.
    pub preference_change: f64,
    /// The largest change of a probability of DPO's optimal policy.
    pub policy_change: f64,
    /// The human utility.
    pub utility: f64,
}

const REWARDS: [[f64; 3]; 2] = [[0.2, 0.0, -0.2], [0.3, 0.1, -0.4]];
const REFERENCE: [f64; 3] = [0.5, 0.3, 0.2];
/// How frequent the prompts are.
const FREQUENCY: [f64; 2] = [0.75, 0.25];
/// The largest shift, in quarters.
const LARGEST: i32 = 12;
/// What counts as no change: what rounding leaves.
const NONE: f64 = 1e-9;

/// What counts as a change of utility, which is between 0 and 1.
const CHANGE: f64 = 0.01;

type World = [[f64; 3]; 2];

/// Works out every shift.
pub(crate) fn find(beta: f64) -> Utilities {
    let before = optima(&REWARDS, beta);
    let curve: Vec<Shift> = (-LARGEST..=LARGEST)
        .map(|quarters| {
            let shift = f64::from(quarters) / 4.0;
            let world = shifted([shift, -shift]);
            let after = optima(&world, beta);
            Shift {
                shift,
                preference_change: difference(&preferences(&REWARDS), &preferences(&world)),
                policy_change: difference(&before, &after),
                utility: utility(&world, beta),
            }
        })
        .collect();
    let most = f64::from(LARGEST) / 4.0;
    let same_for_all = (utility(&shifted([most; 2]), beta) - utility(&REWARDS, beta)).abs();
    let closed: Vec<f64> =
        REWARDS.iter().flat_map(|rewards| optimal(rewards, beta).probabilities()).collect();
    let error = difference(&closed, &before);
    let stays = |of: fn(&Shift) -> f64| curve.iter().all(|shift| of(shift) < NONE);
    let largest =
        curve.iter().map(|shift| (shift.utility - utility(&REWARDS, beta)).abs()).fold(0.0, f64::max);
    let holds = stays(|shift| shift.preference_change)
        && stays(|shift| shift.policy_change)
        && largest > CHANGE
        && same_for_all < NONE
        && error < 1e-7;
    Utilities { holds, rewards: REWARDS.map(Vec::from).to_vec(), curve, same_for_all, error }
}

fn shifted(by: [f64; 2]) -> World {
    let mut world = REWARDS;
    for (rewards, by) in world.iter_mut().zip(by) {
        *rewards = rewards.map(|reward| reward + by);
    }
    world
}

fn optimal(rewards: &[f64; 3], beta: f64) -> Tabular {
    Tabular::optimal(&REFERENCE, rewards, beta)
}

/// P(y ≻ y'|x) under Bradley and Terry's model, for all x, y and y'.
fn preferences(world: &World) -> Vec<f64> {
    let of_prompt = |rewards: &[f64; 3]| -> Vec<f64> {
        rewards.iter().flat_map(|r| rewards.iter().map(move |other| sigmoid(r - other))).collect()
    };
    world.iter().flat_map(of_prompt).collect()
}

/// The probabilities of the policy with the least DPO loss on all preferences, for all x and y.
fn optima(world: &World, beta: f64) -> Vec<f64> {
    let of_prompt = |rewards: &[f64; 3]| {
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
        let policy = Tabular::at(&REFERENCE).descend(|log_probs, _| {
            let pairs: Vec<Pair> = judgements
                .iter()
                .map(|(chosen, rejected, weight)| Pair {
                    chosen: log_probs[*chosen],
                    rejected: log_probs[*rejected],
                    weight: *weight,
                })
                .collect();
            by_completion(&dpo(&Dpo { beta }, &pairs), &sides, 3)
        });
        policy.probabilities()
    };
    world.iter().flat_map(of_prompt).collect()
}

/// The mean value over prompts and the optimal policy's completions.
fn utility(world: &World, beta: f64) -> f64 {
    let of_prompt = |(rewards, frequency): (&[f64; 3], f64)| {
        let policy = optimal(rewards, beta).probabilities();
        policy.into_iter().map(move |probability| frequency * probability).zip(*rewards)
    };
    let probable: Vec<(f64, f64)> = world.iter().zip(FREQUENCY).flat_map(of_prompt).collect();
    let z0: f64 = probable.iter().map(|(probability, reward)| probability * reward).sum();
    probable.iter().map(|(probability, reward)| probability * sigmoid(reward - z0)).sum()
}

fn difference(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_and_optimum_stay_while_utility_changes() {
        for beta in [0.05, 0.1, 1.0] {
            let found = find(beta);
            assert!(found.holds, "{beta}: {found:?}");
            let utility = |shift: f64| found.curve.iter().find(|at| at.shift == shift).unwrap().utility;
            assert!(utility(3.0) > utility(0.0) + 0.05 && utility(0.0) > utility(-3.0) + 0.05, "{beta}");
        }
    }

    #[test]
    fn the_optimum_of_dpo_is_that_of_the_reward_less_divergence() {
        assert!(find(0.1).error < 1e-9);
    }
}
