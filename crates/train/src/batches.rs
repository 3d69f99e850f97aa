//! Which examples a step sees, and how they are packed.

use prospect_core::draw::Draw;
use prospect_model::{PackedBatch, Packer, PromptId};

use crate::{Encoded, Encoder, PairExample, TrainError, TrainingSet, UnpairedExample};

/// What a sequence of a batch is to the objective.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Role {
    /// KTO's example.
    Unpaired {
        /// Thumbs up.
        desirable: bool,
        /// The row's own weight.
        weight: f64,
    },
    /// A prompt with another prompt's completion, for KTO's reference point.
    Mismatched,
    /// A pair's preferred completion.
    Chosen,
    /// A pair's other completion.
    Rejected,
    /// A completion to imitate, of so many tokens.
    Supervised {
        /// Scored tokens.
        tokens: usize,
    },
}

/// Sequences that pass through the model at once.
#[derive(Debug)]
pub struct MicroBatch {
    /// The rows.
    pub packed: PackedBatch,
    /// What each sequence of `packed` is.
    pub roles: Vec<Role>,
}

/// The order of `count` examples in an epoch: a function of seed and epoch only.
pub(crate) fn epoch_order(seed: u64, epoch: u64, count: usize) -> Vec<usize> {
    Draw::new(seed, &format!("order of epoch {epoch}")).permutation(count)
}

/// The member of `candidates` whose completion is to stand under the prompt of the one at `position`, for KTO's
/// reference point: the next one, cyclically, of another prompt. None if all have the same prompt.
pub fn partner(candidates: &[usize], position: usize, same_prompt: impl Fn(usize) -> bool) -> Option<usize> {
    let count = candidates.len();
    (1..count)
        .map(|offset| candidates[(position + offset) % count])
        .find(|candidate| !same_prompt(*candidate))
}

/// Packs sequences, putting those of equal prompt tokens under one prompt.
#[derive(Default)]
struct Forest<'a> {
    packer: Packer<'a>,
    prompts: Vec<(&'a [u32], PromptId)>,
    roles: Vec<Role>,
}

impl<'a> Forest<'a> {
    fn add(&mut self, encoded: &'a Encoded, role: Role) {
        let known = self.prompts.iter().find(|(prompt, _)| *prompt == encoded.prompt).map(|(_, id)| *id);
        let prompt = known.unwrap_or_else(|| {
            let id = self.packer.prompt(&encoded.prompt);
            self.prompts.push((&encoded.prompt, id));
            id
        });
        self.packer.completion(prompt, &encoded.completion, role != Role::Mismatched);
        self.roles.push(role);
    }

    fn pack(self) -> Result<MicroBatch, TrainError> {
        Ok(MicroBatch { packed: self.packer.pack()?, roles: self.roles })
    }
}

/// Packs pairs (chosen and rejected in turn), then prompts with completions of other prompts.
pub fn pack_pairs(pairs: &[&PairExample], mismatched: &[Encoded]) -> Result<MicroBatch, TrainError> {
    let mut forest = Forest::default();
    for pair in pairs {
        forest.add(&pair.chosen, Role::Chosen);
        forest.add(&pair.rejected, Role::Rejected);
    }
    for encoded in mismatched {
        forest.add(encoded, Role::Mismatched);
    }
    forest.pack()
}

/// Packs the examples `batch` of a global batch into micro-batches of at most `micro` completions.
///
/// KTO's partners come from the whole global batch, or, if that has only one prompt, from `epoch`.
pub(crate) fn micro_batches(
    set: &TrainingSet,
    batch: &[usize],
    epoch: &[usize],
    micro: usize,
    encoder: &Encoder<'_>,
) -> Result<Vec<MicroBatch>, TrainError> {
    let per_micro = (micro / set.completions_per_example()).max(1);
    let mut micro_batches = Vec::new();
    match set {
        TrainingSet::Unpaired(examples) => {
            let partners = partners(examples, batch, epoch, encoder)?;
            for (batch, partners) in batch.chunks(per_micro).zip(partners.chunks(per_micro)) {
                let mut forest = Forest::default();
                for index in batch {
                    let example = &examples[*index];
                    let role = Role::Unpaired { desirable: example.desirable, weight: example.weight };
                    forest.add(&example.encoded, role);
                }
                for partner in partners {
                    forest.add(partner, Role::Mismatched);
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
                    let encoded = &examples[*index];
                    forest.add(encoded, Role::Supervised { tokens: encoded.completion.len() });
                }
                micro_batches.push(forest.pack()?);
            }
        }
    }
    Ok(micro_batches)
}

/// For every example of `batch`, its prompt with the completion of a partner.
fn partners(
    examples: &[UnpairedExample],
    batch: &[usize],
    epoch: &[usize],
    encoder: &Encoder<'_>,
) -> Result<Vec<Encoded>, TrainError> {
    let mut partners = Vec::with_capacity(batch.len());
    for (position, index) in batch.iter().enumerate() {
        let example = &examples[*index];
        let same_prompt = |candidate: usize| examples[candidate].prompt_id == example.prompt_id;
        let found = partner(batch, position, same_prompt).or_else(|| {
            let position = epoch.iter().position(|candidate| candidate == index)?;
            partner(epoch, position, same_prompt)
        });
        let found = found.ok_or_else(|| {
            TrainError::Examples(
                "all examples have one prompt: KTO needs completions of other prompts".to_owned(),
            )
        })?;
        let encoded = encoder.encode(&example.prompt, &examples[found].completion)?;
        // The prompt fitted with the example's own completion, and is cut the same way whatever follows.
        partners.extend(encoded);
    }
    Ok(partners)
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
                match partner(&batch, position, same) {
                    Some(found) => assert!(found != position && prompts[found] != prompts[position]),
                    None => assert!(batch.iter().all(|other| prompts[*other] == prompts[position])),
                }
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
