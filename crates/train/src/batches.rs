//! Which examples a step sees, and how they are packed.

use prospect_core::draw::Draw;
use prospect_model::{PackedBatch, Packer, PromptId};

use crate::{
    Encoded, Encoder, Objective, PairExample, Settings, TrainError, TrainingSet, UnpairedExample,
    examples::SupervisedExample, settings::Z0,
};

/// What a sequence of a batch is to the objective.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Role {
    /// A completion with a thumb.
    Unpaired {
        /// Thumbs up.
        desirable: bool,
        /// The row's own weight.
        weight: f64,
        /// Examples of one group share KTO's reference point.
        group: usize,
    },
    /// A prompt with another prompt's completion, for KTO's reference point.
    Mismatched {
        /// The examples whose reference point it is for.
        group: usize,
    },
    /// A pair's preferred completion.
    Chosen,
    /// A pair's other completion.
    Rejected,
    /// A completion to imitate.
    Supervised {
        /// The row's own weight.
        weight: f64,
    },
}

/// Sequences that pass through the model at once.
#[derive(Debug)]
pub struct MicroBatch {
    /// The rows.
    pub packed: PackedBatch,
    /// What each sequence of `packed` is.
    pub roles: Vec<Role>,
    /// Whether noise changed the row or pair that each sequence of `packed` belongs to.
    pub corrupted: Vec<bool>,
}

/// The order of `count` examples in an epoch: a function of seed and epoch only.
pub(crate) fn epoch_order(seed: u64, epoch: u64, count: usize) -> Vec<usize> {
    Draw::new(seed, &format!("order of epoch {epoch}")).permutation(count)
}

/// The members of `candidates` whose completions may stand under the prompt of the one at `position`, for KTO's
/// reference point: those of other prompts, the next one first, cyclically.
pub fn partners(
    candidates: &[usize],
    position: usize,
    same_prompt: impl Fn(usize) -> bool,
) -> impl Iterator<Item = usize> {
    let count = candidates.len();
    let others = (1..count).map(move |offset| candidates[(position + offset) % count]);
    others.filter(move |candidate| !same_prompt(*candidate))
}

/// Packs sequences, putting those of equal prompt tokens under one prompt.
#[derive(Default)]
struct Forest<'a> {
    packer: Packer<'a>,
    prompts: Vec<(&'a [u32], PromptId)>,
    roles: Vec<Role>,
    corrupted: Vec<bool>,
}

impl<'a> Forest<'a> {
    fn add(&mut self, encoded: &'a Encoded, role: Role, corrupted: bool) {
        let known = self.prompts.iter().find(|(prompt, _)| *prompt == encoded.prompt).map(|(_, id)| *id);
        let prompt = known.unwrap_or_else(|| {
            let id = self.packer.add_prompt(&encoded.prompt);
            self.prompts.push((&encoded.prompt, id));
            id
        });
        self.packer.add_completion(prompt, &encoded.completion, !matches!(role, Role::Mismatched { .. }));
        self.roles.push(role);
        self.corrupted.push(corrupted);
    }

    fn pack(self) -> Result<MicroBatch, TrainError> {
        Ok(MicroBatch { packed: self.packer.pack()?, roles: self.roles, corrupted: self.corrupted })
    }
}

/// Packs pairs (chosen and rejected in turn), then prompts with completions of other prompts.
pub fn pack_pairs(pairs: &[&PairExample], mismatched: &[Encoded]) -> Result<MicroBatch, TrainError> {
    let mut forest = Forest::default();
    for pair in pairs {
        forest.add(&pair.chosen, Role::Chosen, pair.row.is_corrupted());
        forest.add(&pair.rejected, Role::Rejected, pair.row.is_corrupted());
    }
    for encoded in mismatched {
        forest.add(encoded, Role::Mismatched { group: 0 }, false);
    }
    forest.pack()
}

/// Packs the examples `batch` of a global batch into micro-batches.
///
/// KTO's partners come from the examples that share its reference point, or, if those have too few other prompts, from
/// `epoch`.
pub(crate) fn micro_batches(
    set: &TrainingSet,
    batch: &[usize],
    epoch: &[usize],
    settings: &Settings,
    encoder: &Encoder<'_>,
) -> Result<Vec<MicroBatch>, TrainError> {
    let per_micro = (settings.micro_batch_size / set.completions_per_example()).max(1);
    let mut micro_batches = Vec::new();
    match set {
        TrainingSet::Unpaired(examples) => {
            let (group_size, scope, count) = match settings.objective {
                Objective::Kto { z0, kl_partners, .. } => {
                    let group_size = z0.group_size(batch.len(), per_micro);
                    // The paper's code mixes the global batch before it deals it out to devices.
                    let scope = if z0 == Z0::MicroBatch { group_size } else { batch.len() };
                    (group_size, scope, kl_partners)
                }
                _ => (batch.len(), batch.len(), 0),
            };
            let mut mismatched = Vec::with_capacity(batch.len());
            for candidates in batch.chunks(scope.max(1)) {
                for position in 0..candidates.len() {
                    mismatched.push(with_partners(examples, candidates, position, epoch, count, encoder)?);
                }
            }
            for (micro, batch) in batch.chunks(per_micro).enumerate() {
                let mut forest = Forest::default();
                let places = || (micro * per_micro..).map(|place| (place, place / group_size.max(1)));
                for (index, (_, group)) in batch.iter().zip(places()) {
                    let UnpairedExample { encoded, desirable, weight, corrupted, .. } = &examples[*index];
                    let role = Role::Unpaired { desirable: *desirable, weight: *weight, group };
                    forest.add(encoded, role, *corrupted);
                }
                for (place, group) in places().take(batch.len()) {
                    for encoded in &mismatched[place] {
                        forest.add(encoded, Role::Mismatched { group }, false);
                    }
                }
                micro_batches.push(forest.pack()?);
            }
        }
        TrainingSet::Paired(examples) => {
            for batch in batch.chunks(per_micro) {
                let pairs: Vec<_> = batch.iter().map(|index| &examples[*index]).collect();
                micro_batches.push(pack_pairs(&pairs, &[])?);
            }
        }
        TrainingSet::Completions(examples) => {
            for batch in batch.chunks(per_micro) {
                let mut forest = Forest::default();
                for index in batch {
                    let SupervisedExample { encoded, weight, corrupted, .. } = &examples[*index];
                    forest.add(encoded, Role::Supervised { weight: *weight }, *corrupted);
                }
                micro_batches.push(forest.pack()?);
            }
        }
    }
    Ok(micro_batches)
}

/// The prompt of the candidate at `position` with the completions of `count` partners.
fn with_partners(
    examples: &[UnpairedExample],
    candidates: &[usize],
    position: usize,
    epoch: &[usize],
    count: usize,
    encoder: &Encoder<'_>,
) -> Result<Vec<Encoded>, TrainError> {
    let example = &examples[candidates[position]];
    let mut encoded = Vec::with_capacity(count);
    for partner in find_partners(examples, candidates, position, epoch, count)? {
        // The prompt fitted with the example's own completion, and is cut the same way whatever follows.
        encoded.extend(encoder.encode(&example.prompt, &examples[partner].completion)?);
    }
    Ok(encoded)
}

/// The `count` examples whose completions stand under the prompt of the candidate at `position`.
pub(crate) fn find_partners(
    examples: &[UnpairedExample],
    candidates: &[usize],
    position: usize,
    epoch: &[usize],
    count: usize,
) -> Result<Vec<usize>, TrainError> {
    let index = candidates[position];
    let same_prompt = |other: usize| examples[other].prompt_id == examples[index].prompt_id;
    let mut found: Vec<usize> = partners(candidates, position, same_prompt).take(count).collect();
    if found.len() < count {
        let position = epoch.iter().position(|other| *other == index).unwrap_or(0);
        for other in partners(epoch, position, same_prompt) {
            if found.len() < count && !found.contains(&other) {
                found.push(other);
            }
        }
    }
    if found.len() < count {
        return Err(TrainError::Examples(format!(
            "KTO needs {count} completions of other prompts for each prompt, and for one there are only {}: add prompts, lower kl_partners, or use `objective: apo_zero_unpaired`, which needs none",
            found.len()
        )));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partners_have_other_prompts_whatever_the_size() {
        let prompts = ["a", "a", "b", "a", "c"];
        for size in 2..=5 {
            let batch: Vec<usize> = (0..size).collect();
            for position in 0..size {
                let same = |candidate: usize| prompts[candidate] == prompts[position];
                let found: Vec<usize> = partners(&batch, position, same).collect();
                assert!(found.iter().all(|other| prompts[*other] != prompts[position]));
                let others = batch.iter().filter(|other| prompts[**other] != prompts[position]);
                assert_eq!(found.len(), others.count(), "each of them once");
            }
        }
    }

    #[test]
    fn epochs_differ_and_repeat_by_seed() {
        assert_eq!(epoch_order(1, 0, 50), epoch_order(1, 0, 50));
        assert_ne!(epoch_order(1, 0, 50), epoch_order(1, 1, 50));
        assert_ne!(epoch_order(1, 0, 50), epoch_order(2, 0, 50));
    }
}
