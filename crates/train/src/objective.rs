//! From the log-probs of micro-batches to one loss over the global batch and back to gradients.

use std::collections::BTreeMap;

use prospect_objective::{
    BatchLoss, ClassWeights, Kto, LogProb, Metrics, PreferencePair, RunningMean, Supervised, Unpaired,
    apo_zero_unpaired, bco, cdpo, dpo, hinge, ipo, kto, orpo, reference_point, robust_dpo, sft, simpo, slic,
};
use serde::{Deserialize, Serialize};

use crate::{Objective, batches::Role};

/// An objective whose class weights are known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Loss {
    objective: Objective,
    weights: ClassWeights,
}

/// What an objective carries from step to step. It belongs into a checkpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ObjectiveState {
    /// BCO's mean of all rewards so far.
    pub rewards: RunningMean,
}

/// Sequences by index into a batch, and as the objective takes them.
type Indexed<T> = (Vec<usize>, Vec<T>);

impl Loss {
    /// For training data of `counts` = (n_D, n_U) rows.
    pub(crate) fn new(objective: &Objective, counts: (usize, usize)) -> Self {
        let weights = objective.class_weights(counts).unwrap_or_default();
        Self { objective: objective.clone(), weights }
    }

    pub(crate) fn beta(&self) -> f64 {
        self.objective.beta()
    }

    /// The state after a training batch was seen, with which its loss is evaluated.
    pub(crate) fn observe(
        &self,
        state: ObjectiveState,
        roles: &[Role],
        log_probs: &[LogProb],
    ) -> ObjectiveState {
        match &self.objective {
            Objective::Bco(options) => {
                ObjectiveState { rewards: options.observe(state.rewards, &unpaired(roles, log_probs).1) }
            }
            _ => state,
        }
    }

    /// The loss of a global batch, and d loss / d log π of every sequence, in the order given.
    pub(crate) fn evaluate(
        &self,
        state: ObjectiveState,
        roles: &[Role],
        log_probs: &[LogProb],
    ) -> (f64, Vec<f64>, Metrics) {
        let of_pairs = |evaluate: &dyn Fn(&[PreferencePair]) -> BatchLoss| {
            let (indices, pairs) = pairs(roles, log_probs);
            (indices, evaluate(&pairs))
        };
        let (indices, evaluated) = match &self.objective {
            Objective::Kto { beta, z0, .. } => {
                let groups = groups(roles, log_probs);
                let indices = groups.iter().flat_map(|group| &group.examples.0).copied().collect();
                let groups: Vec<_> = groups
                    .iter()
                    .map(|group| {
                        (group.examples.1.as_slice(), reference_point(&group.mismatched) / z0.divisor())
                    })
                    .collect();
                (indices, kto(&Kto { beta: *beta, weights: self.weights }, &groups))
            }
            Objective::ApoZeroUnpaired { beta, .. } => {
                let (indices, batch) = unpaired(roles, log_probs);
                (indices, apo_zero_unpaired(&Kto { beta: *beta, weights: self.weights }, &batch))
            }
            Objective::Bco(options) => {
                let (indices, batch) = unpaired(roles, log_probs);
                (indices, bco(options, &batch, state.rewards.mean))
            }
            Objective::Dpo(options) => of_pairs(&|pairs| dpo(options, pairs)),
            Objective::Cdpo(options) => of_pairs(&|pairs| cdpo(options, pairs)),
            Objective::RobustDpo(options) => of_pairs(&|pairs| robust_dpo(options, pairs)),
            Objective::Hinge(options) => of_pairs(&|pairs| hinge(options, pairs)),
            Objective::Ipo(options) => of_pairs(&|pairs| ipo(options, pairs)),
            Objective::Simpo(options) => of_pairs(&|pairs| simpo(options, pairs)),
            Objective::Orpo(options) => of_pairs(&|pairs| orpo(options, pairs)),
            Objective::Slic(options) => of_pairs(&|pairs| slic(options, pairs)),
            Objective::Sft | Objective::Csft(_) => {
                let (indices, batch) = supervised(roles, log_probs);
                (indices, sft(&batch))
            }
        };
        let mut gradient = vec![0.0; roles.len()];
        for (index, value) in indices.into_iter().zip(&evaluated.gradient) {
            gradient[index] = *value;
        }
        (evaluated.loss, gradient, evaluated.metrics)
    }
}

/// Examples with the mismatched completions of their reference point.
#[derive(Default)]
struct Group {
    examples: Indexed<Unpaired>,
    mismatched: Vec<LogProb>,
}

/// Completions with a thumb, by groups that share a reference point. A held-out pair counts as two rows.
fn groups(roles: &[Role], log_probs: &[LogProb]) -> Vec<Group> {
    let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
    for (index, (role, log_prob)) in roles.iter().zip(log_probs).enumerate() {
        let (desirable, weight, group) = match role {
            Role::Unpaired { desirable, weight, group } => (*desirable, *weight, *group),
            Role::Chosen => (true, 1.0, 0),
            Role::Rejected => (false, 1.0, 0),
            Role::Mismatched { group } => {
                groups.entry(*group).or_default().mismatched.push(*log_prob);
                continue;
            }
            Role::Supervised { .. } => continue,
        };
        let (indices, examples) = &mut groups.entry(group).or_default().examples;
        indices.push(index);
        examples.push(Unpaired { log_prob: *log_prob, desirable, weight });
    }
    groups.into_values().collect()
}

fn unpaired(roles: &[Role], log_probs: &[LogProb]) -> Indexed<Unpaired> {
    let (mut indices, mut batch) = Indexed::default();
    for group in groups(roles, log_probs) {
        indices.extend(group.examples.0);
        batch.extend(group.examples.1);
    }
    (indices, batch)
}

/// Pairs, in the order of their chosen completions; all chosen indices come before all rejected ones.
fn pairs(roles: &[Role], log_probs: &[LogProb]) -> Indexed<PreferencePair> {
    let with =
        |wanted: Role| -> Vec<usize> { (0..roles.len()).filter(|index| roles[*index] == wanted).collect() };
    let (chosen, rejected) = (with(Role::Chosen), with(Role::Rejected));
    let pairs = chosen
        .iter()
        .zip(&rejected)
        .map(|(c, r)| PreferencePair { chosen: log_probs[*c], rejected: log_probs[*r], weight: 1.0 })
        .collect();
    ([chosen, rejected].concat(), pairs)
}

/// Completions to imitate. Of a held-out pair it is the chosen one.
fn supervised(roles: &[Role], log_probs: &[LogProb]) -> Indexed<Supervised> {
    let (mut indices, mut batch) = Indexed::default();
    for (index, (role, log_prob)) in roles.iter().zip(log_probs).enumerate() {
        let weight = match role {
            Role::Supervised { weight } => *weight,
            Role::Chosen => 1.0,
            _ => continue,
        };
        indices.push(index);
        batch.push(Supervised { policy: log_prob.policy, tokens: log_prob.tokens, weight });
    }
    (indices, batch)
}
