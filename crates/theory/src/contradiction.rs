//! Theorem 4.3 in version 1: two humans with opposite preferences, one judgement each (p = ½).
//!
//! "In the worst-case, the optimal policy under DPO decreases the expected value of both humans. In
//! contrast, if each preference is broken up into two examples, then KTO (with default settings)
//! does not change the policy."
//!
//! The world has a third completion that both humans like least. DPO's loss depends only on the
//! ratio of the two judged completions. Every policy that keeps this ratio is an optimum, also one
//! that moves their probability to the third: there, both humans lose. Under KTO, each completion
//! is desirable once and undesirable once, so that its loss is ½ and its gradient 0 for every
//! policy and every z0. Descent from the reference leaves it under DPO, too: the worst case is
//! about optima, not about training.

use prospect_objective::{BatchLoss, Dpo, Kto, LogProb, PreferencePair, Unpaired, dpo, kto};
use serde::{Deserialize, Serialize};

use crate::tabular::sum_by_completion;

/// Result for version 1 of theorem 4.3.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContradictionFinding {
    /// True if DPO has optima that are worse for both humans, and KTO never moves.
    pub holds: bool,
    /// Optima of DPO, from the reference on.
    pub optima: Vec<DpoOptimum>,
    /// Largest deviation of DPO's loss from its minimum, ln 2, over `optima`.
    pub dpo_deviation: f64,
    /// Largest deviation of KTO's loss from ½, over `optima` and reference points.
    pub kto_deviation: f64,
    /// Largest gradient of KTO with respect to a completion's log π, over the same.
    pub kto_gradient: f64,
}

/// A policy that minimises DPO's loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DpoOptimum {
    /// Share of the reference's probability of the judged completions that is kept.
    pub kept: f64,
    /// Expected value of each human.
    pub values: [f64; 2],
}

/// π_ref of the completion that the first human prefers, of the second's, and of the third.
const REFERENCE: [f64; 3] = [0.4, 0.4, 0.2];
/// Values of the completions for each human.
const VALUES: [[f64; 3]; 2] = [[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]];
/// Shares of the judged completions' probability that an optimum keeps.
const KEPT: [f64; 6] = [1.0, 0.8, 0.6, 0.4, 0.2, 0.01];
/// Reference points at which KTO is evaluated, in nats.
const Z0: [f64; 3] = [0.0, 0.5, 7.0];
/// Deviations below this are rounding errors.
const ROUNDING: f64 = 1e-12;

/// Evaluates all optima.
pub(crate) fn check(beta: f64) -> ContradictionFinding {
    let optima: Vec<DpoOptimum> =
        KEPT.iter().map(|kept| DpoOptimum { kept: *kept, values: values(*kept) }).collect();
    let dpo_deviation = KEPT.iter().map(|kept| (dpo_loss(beta, *kept) - 2f64.ln()).abs()).fold(0.0, f64::max);
    let under_kto: Vec<(f64, Vec<f64>)> =
        KEPT.iter().flat_map(|kept| Z0.iter().map(move |z0| kto_loss(beta, *kept, *z0))).collect();
    let kto_deviation = under_kto.iter().map(|(loss, _)| (loss - 0.5).abs()).fold(0.0, f64::max);
    let kto_gradient =
        under_kto.iter().flat_map(|(_, gradient)| gradient).map(|slope| slope.abs()).fold(0.0, f64::max);
    let both_lose =
        optima.windows(2).all(|pair| (0..2).all(|human| pair[1].values[human] < pair[0].values[human]));
    let holds =
        both_lose && [dpo_deviation, kto_deviation, kto_gradient].iter().all(|found| *found < ROUNDING);
    ContradictionFinding { holds, optima, dpo_deviation, kto_deviation, kto_gradient }
}

/// Returns the policy that keeps a share of the judged completions' probability.
fn policy(kept: f64) -> [f64; 3] {
    let [first, second, _] = REFERENCE;
    [kept * first, kept * second, 1.0 - kept * (first + second)]
}

fn values(kept: f64) -> [f64; 2] {
    VALUES.map(|values| policy(kept).iter().zip(values).map(|(probability, value)| probability * value).sum())
}

fn judged(kept: f64) -> [LogProb; 2] {
    let [first, second, _] = policy(kept);
    [(first, REFERENCE[0]), (second, REFERENCE[1])].map(|(policy, reference): (f64, f64)| LogProb {
        policy: policy.ln(),
        reference: reference.ln(),
        tokens: 1,
    })
}

fn dpo_loss(beta: f64, kept: f64) -> f64 {
    let [first, second] = judged(kept);
    let pair = |chosen, rejected| PreferencePair { chosen, rejected, weight: 1.0 };
    dpo(&Dpo { beta }, &[pair(first, second), pair(second, first)]).loss
}

/// Returns KTO's loss and its gradient by completion.
fn kto_loss(beta: f64, kept: f64, z0: f64) -> (f64, Vec<f64>) {
    let [first, second] = judged(kept);
    let thumb = |log_prob, desirable| Unpaired { log_prob, desirable, weight: 1.0 };
    let examples = [thumb(first, true), thumb(second, false), thumb(second, true), thumb(first, false)];
    let evaluated: BatchLoss = kto(&Kto { beta, ..Kto::default() }, &[(&examples, z0)]);
    sum_by_completion(&evaluated, &[0, 1, 1, 0], 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_humans_lose_under_some_optimum_of_dpo_and_none_under_kto() {
        for beta in [0.01, 0.1, 1.0] {
            let found = check(beta);
            assert!(found.holds, "{beta}: {found:?}");
        }
        let found = check(0.1);
        let values = |optimum: Option<&DpoOptimum>| optimum.unwrap().values;
        // 0.4·1 − 0.2·1 at the reference.
        assert!((values(found.optima.first())[0] - 0.2).abs() < 1e-15);
        assert!(values(found.optima.last()).iter().all(|value| *value < -0.98));
    }

    #[test]
    fn class_weights_other_than_the_default_move_the_policy() {
        let [first, _] = judged(1.0);
        let thumb = |desirable| Unpaired { log_prob: first, desirable, weight: 1.0 };
        let weights = prospect_objective::ClassWeights { desirable: 1.0, undesirable: 1.5 };
        let evaluated = kto(&Kto { beta: 0.1, weights }, &[(&[thumb(true), thumb(false)], 0.0)]);
        assert!(evaluated.gradient.iter().sum::<f64>() > 1e-3);
    }
}
