//! Loss of a global batch: applies the objective of `prospect-objective` to sequence log-probs.

use std::collections::BTreeMap;

use prospect_core::sample::mean;
use prospect_objective::{
    BatchLoss, ClassCounts, ClassWeights, Kto, KtoValue, LogProb, Metrics, PreferencePair, RunningMean,
    Supervised, Unpaired, Whitening, aot, aot_unpaired, apo_down, apo_zero, apo_zero_unpaired, bco, cdpo,
    dpo, entropy_point, exo_pair, hinge, ipo, kto_with_value, mean_log_ratio, nca_pair, orpo, ppo,
    reference_point, robust_dpo, sft, simpo, slic, sppo_hard,
};
use serde::{Deserialize, Serialize};

use crate::{Objective, WeightedObjective, batches::Role, logprobs::BatchLogps, settings::Z0};

/// An objective with resolved class weights.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LossFunction {
    objective: Objective,
    weights: ClassWeights,
}

/// State that an objective carries from step to step; part of a checkpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ObjectiveState {
    /// BCO's δ: running mean of all rewards.
    pub rewards: RunningMean,
}

/// Inputs of an objective, with the index of each sequence in the batch.
#[derive(Debug)]
struct Indexed<T> {
    /// Sequence indices, in the order of the objective's gradient.
    indices: Vec<usize>,
    inputs: Vec<T>,
}

impl<T> Default for Indexed<T> {
    fn default() -> Self {
        Self { indices: Vec::new(), inputs: Vec::new() }
    }
}

impl LossFunction {
    /// Resolves class weights for training data with `counts` rows.
    pub(crate) fn new(objective: &Objective, counts: ClassCounts) -> Self {
        let weights = objective.class_weights(counts).unwrap_or_default();
        Self { objective: objective.clone(), weights }
    }

    /// The objective.
    pub(crate) fn objective(&self) -> &Objective {
        &self.objective
    }

    /// β of the objective.
    pub(crate) fn beta(&self) -> f64 {
        self.objective.beta()
    }

    /// Score that the objective ranks by; see [`Objective::own_score`].
    pub(crate) fn own_score(&self, log_prob: LogProb) -> Option<f64> {
        self.objective.own_score(log_prob)
    }

    /// Returns the state after a training batch; the batch's loss is evaluated with it.
    pub(crate) fn observe(&self, state: ObjectiveState, roles: &[Role], logps: &[LogProb]) -> ObjectiveState {
        let observe = |objective: &Objective| match objective {
            Objective::Bco(bco) => {
                Some(ObjectiveState { rewards: bco.observe(state.rewards, &unpaired(roles, logps).inputs) })
            }
            _ => None,
        };
        let observed = match &self.objective {
            Objective::Sum { parts, .. } => parts.iter().find_map(|part| observe(&part.objective)),
            objective => observe(objective),
        };
        observed.unwrap_or(state)
    }

    /// Computes PPO's whitening of a batch; `None` for other objectives.
    pub(crate) fn whitening(
        &self,
        roles: &[Role],
        tokens: impl IntoIterator<Item = usize>,
    ) -> Option<Whitening> {
        let Objective::Ppo(options) = &self.objective else { return None };
        let labelled = roles.iter().zip(tokens);
        Some(options.whitening(labelled.filter_map(|(role, tokens)| Some((role.is_desirable()?, tokens)))))
    }

    /// Evaluates the objective on a global batch. The gradient, d loss / d log π, has one entry per
    /// sequence of the batch, in the order given; mismatched completions get 0.
    pub(crate) fn evaluate(&self, state: ObjectiveState, roles: &[Role], batch: &BatchLogps) -> BatchLoss {
        match &self.objective {
            Objective::Sum { parts, .. } => self.evaluate_sum(parts, state, roles, batch),
            objective => self.evaluate_one(objective, state, roles, batch),
        }
    }

    /// Sums losses and gradients of the parts. A metric is that of the first part that has it.
    fn evaluate_sum(
        &self,
        parts: &[WeightedObjective],
        state: ObjectiveState,
        roles: &[Role],
        batch: &BatchLogps,
    ) -> BatchLoss {
        let mut sum = BatchLoss { loss: 0.0, gradient: vec![0.0; roles.len()], metrics: Metrics::default() };
        for WeightedObjective { weight, objective } in parts {
            let part = self.evaluate_one(objective, state, roles, batch);
            sum.loss += weight * part.loss;
            for (sum, gradient) in sum.gradient.iter_mut().zip(&part.gradient) {
                *sum += weight * gradient;
            }
            sum.metrics = sum.metrics.or(&part.metrics);
        }
        sum
    }

    fn evaluate_one(
        &self,
        objective: &Objective,
        state: ObjectiveState,
        roles: &[Role],
        batch: &BatchLogps,
    ) -> BatchLoss {
        let BatchLogps { logps, surrogates, .. } = batch;
        let on_pairs = |evaluate: &dyn Fn(&[PreferencePair]) -> BatchLoss| {
            let Indexed { indices, inputs } = pairs(roles, logps);
            (indices, evaluate(&inputs))
        };
        let (indices, evaluated) = match objective {
            Objective::Kto { beta, z0, value_function, reference_free, .. } => {
                let options = Kto { beta: *beta, weights: self.weights };
                if *reference_free {
                    reference_free_kto(&options, *value_function, roles, logps)
                } else {
                    kto_in_groups(&options, *value_function, *z0, roles, logps)
                }
            }
            Objective::ApoZeroUnpaired { beta, .. } => {
                let Indexed { indices, inputs } = unpaired(roles, logps);
                (indices, apo_zero_unpaired(&Kto { beta: *beta, weights: self.weights }, &inputs))
            }
            Objective::Bco(options) => {
                let Indexed { indices, inputs } = unpaired(roles, logps);
                (indices, bco(options, &inputs, state.rewards.mean))
            }
            Objective::Ppo(_) => {
                let Indexed { indices, inputs } = unpaired(roles, logps);
                let surrogates: Vec<f64> =
                    indices.iter().filter_map(|index| surrogates.get(*index).copied()).collect();
                (indices, ppo(&inputs, &surrogates))
            }
            Objective::Dpo(options) => on_pairs(&|pairs| dpo(options, pairs)),
            Objective::Cdpo(options) => on_pairs(&|pairs| cdpo(options, pairs)),
            Objective::RobustDpo(options) => on_pairs(&|pairs| robust_dpo(options, pairs)),
            Objective::Hinge(options) => on_pairs(&|pairs| hinge(options, pairs)),
            Objective::Ipo(options) => on_pairs(&|pairs| ipo(options, pairs)),
            Objective::ApoZero(options) => on_pairs(&|pairs| apo_zero(options, pairs)),
            Objective::ApoDown(options) => on_pairs(&|pairs| apo_down(options, pairs)),
            Objective::ExoPair(options) => on_pairs(&|pairs| exo_pair(options, pairs)),
            Objective::NcaPair(options) => on_pairs(&|pairs| nca_pair(options, pairs)),
            Objective::SppoHard(options) => on_pairs(&|pairs| sppo_hard(options, pairs)),
            Objective::Aot(options) => on_pairs(&|pairs| aot(options, pairs)),
            Objective::AotUnpaired(options) => on_pairs(&|pairs| aot_unpaired(options, pairs)),
            Objective::Simpo(options) => on_pairs(&|pairs| simpo(options, pairs)),
            Objective::Orpo(options) => on_pairs(&|pairs| orpo(options, pairs)),
            Objective::Slic(options) => on_pairs(&|pairs| slic(options, pairs)),
            Objective::Sft | Objective::Csft(_) => {
                let Indexed { indices, inputs } = supervised(roles, logps);
                (indices, sft(&inputs))
            }
            Objective::Sum { parts, .. } => return self.evaluate_sum(parts, state, roles, batch),
        };
        let mut gradient = vec![0.0; roles.len()];
        for (index, value) in indices.into_iter().zip(&evaluated.gradient) {
            gradient[index] = *value;
        }
        BatchLoss { gradient, ..evaluated }
    }
}

/// Evaluates KTO with one reference point per reference group.
fn kto_in_groups(
    options: &Kto,
    value: KtoValue,
    z0: Z0,
    roles: &[Role],
    logps: &[LogProb],
) -> (Vec<usize>, BatchLoss) {
    let groups = reference_groups(roles, logps);
    let indices = groups.iter().flat_map(|group| &group.examples.indices).copied().collect();
    let unclamped = groups.iter().filter_map(|group| mean_log_ratio(&group.kl_logps));
    let kl_unclamped = mean(unclamped.map(|ratio| ratio / z0.divisor()));
    let groups: Vec<_> = groups
        .iter()
        .map(|group| {
            let z0 = reference_point(&group.kl_logps) / z0.divisor();
            (group.examples.inputs.as_slice(), z0)
        })
        .collect();
    let evaluated = kto_with_value(options, value, &groups);
    let metrics = Metrics { kl_unclamped, ..evaluated.metrics };
    (indices, BatchLoss { metrics, ..evaluated })
}

/// Evaluates KTO with log π in place of log-ratios: the reference is uniform, so it cancels.
fn reference_free_kto(
    options: &Kto,
    value: KtoValue,
    roles: &[Role],
    logps: &[LogProb],
) -> (Vec<usize>, BatchLoss) {
    // Held-out log-probs come with those of the reference.
    let logps: Vec<LogProb> = logps.iter().map(|log_prob| LogProb { reference: 0.0, ..*log_prob }).collect();
    let groups = reference_groups(roles, &logps);
    let indices = groups.iter().flat_map(|group| &group.examples.indices).copied().collect();
    let groups: Vec<_> = groups
        .iter()
        .map(|group| (group.examples.inputs.as_slice(), entropy_point(&group.kl_logps)))
        .collect();
    let evaluated = kto_with_value(options, value, &groups);
    (indices, BatchLoss { metrics: Metrics { kl: None, ..evaluated.metrics }, ..evaluated })
}

/// Examples that share a KTO reference point z0, and the log-probs that z0 is estimated from.
#[derive(Default)]
struct ReferenceGroup {
    examples: Indexed<Unpaired>,
    /// Log-probs of mismatched completions.
    kl_logps: Vec<LogProb>,
}

/// Sorts labelled completions by reference group. A held-out pair counts as two rows of group 0.
fn reference_groups(roles: &[Role], logps: &[LogProb]) -> Vec<ReferenceGroup> {
    let mut groups: BTreeMap<usize, ReferenceGroup> = BTreeMap::new();
    for (index, (role, log_prob)) in roles.iter().zip(logps).enumerate() {
        let (desirable, weight, group) = match role {
            Role::Unpaired { desirable, weight, group } => (*desirable, *weight, *group),
            Role::Chosen => (true, 1.0, 0),
            Role::Rejected => (false, 1.0, 0),
            Role::Mismatched { group } => {
                groups.entry(*group).or_default().kl_logps.push(*log_prob);
                continue;
            }
            Role::Supervised { .. } => continue,
        };
        let examples = &mut groups.entry(group).or_default().examples;
        examples.indices.push(index);
        examples.inputs.push(Unpaired { log_prob: *log_prob, desirable, weight });
    }
    groups.into_values().collect()
}

/// Labelled completions of all reference groups.
fn unpaired(roles: &[Role], logps: &[LogProb]) -> Indexed<Unpaired> {
    let mut all = Indexed::default();
    for group in reference_groups(roles, logps) {
        all.indices.extend(group.examples.indices);
        all.inputs.extend(group.examples.inputs);
    }
    all
}

/// Pairs in the order of their chosen completions. Indices list all chosen, then all rejected.
fn pairs(roles: &[Role], logps: &[LogProb]) -> Indexed<PreferencePair> {
    let indices_of =
        |wanted: Role| -> Vec<usize> { (0..roles.len()).filter(|index| roles[*index] == wanted).collect() };
    let (chosen, rejected) = (indices_of(Role::Chosen), indices_of(Role::Rejected));
    let inputs = chosen
        .iter()
        .zip(&rejected)
        .map(|(chosen, rejected)| PreferencePair {
            chosen: logps[*chosen],
            rejected: logps[*rejected],
            weight: 1.0,
        })
        .collect();
    Indexed { indices: [chosen, rejected].concat(), inputs }
}

/// Completions to imitate. Of held-out feedback, the chosen and the desirable ones.
fn supervised(roles: &[Role], logps: &[LogProb]) -> Indexed<Supervised> {
    let mut all = Indexed::default();
    for (index, (role, log_prob)) in roles.iter().zip(logps).enumerate() {
        let weight = match role {
            Role::Supervised { weight } | Role::Unpaired { desirable: true, weight, .. } => *weight,
            Role::Chosen => 1.0,
            _ => continue,
        };
        all.indices.push(index);
        all.inputs.push(Supervised { policy: log_prob.policy, tokens: log_prob.tokens, weight });
    }
    all
}
