//! Data order and packing: the examples of each step, as packed micro-batches.

use prospect_core::draw::Draw;
use prospect_model::{PackedBatch, Packer, PromptId};
use rayon::prelude::*;

use crate::{
    Encoded, Encoder, PairExample, Settings, TrainError, TrainingSet, UnpairedExample,
    examples::SupervisedExample, settings::Z0,
};

/// Role of a sequence in the objective.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Role {
    /// Completion with a binary label.
    Unpaired {
        /// True if the completion is desirable.
        desirable: bool,
        /// Weight of the row.
        weight: f64,
        /// Reference group: examples of one group share KTO's reference point.
        group: usize,
    },
    /// Prompt with the completion of another prompt, for KTO's reference point.
    Mismatched {
        /// Reference group that the sequence contributes to.
        group: usize,
    },
    /// Chosen completion of a pair.
    Chosen,
    /// Rejected completion of a pair.
    Rejected,
    /// Completion to imitate.
    Supervised {
        /// Weight of the row.
        weight: f64,
    },
}

impl Role {
    /// Returns the label of a labelled completion or of a side of a pair; `None` for others.
    pub(crate) fn is_desirable(self) -> Option<bool> {
        match self {
            Self::Unpaired { desirable, .. } => Some(desirable),
            Self::Chosen => Some(true),
            Self::Rejected => Some(false),
            Self::Mismatched { .. } | Self::Supervised { .. } => None,
        }
    }
}

/// Sequences that run through the model at once.
#[derive(Debug)]
pub struct MicroBatch {
    /// Packed tokens.
    pub packed: PackedBatch,
    /// Role of each sequence.
    pub roles: Vec<Role>,
    /// For each sequence, true if noise changed its row or pair.
    pub corrupted: Vec<bool>,
}

/// Returns the order of `count` examples in an epoch, a function of seed and epoch only.
pub(crate) fn epoch_order(seed: u64, epoch: u64, count: usize) -> Vec<usize> {
    Draw::new(seed, &format!("order of epoch {epoch}")).permutation(count)
}

/// Global batches by step. Every epoch is shuffled again; its last batch may be smaller.
pub(crate) struct EpochSampler {
    seed: u64,
    examples: usize,
    per_batch: usize,
    epoch: u64,
    order: Vec<usize>,
}

/// Indices of a global batch, and of the epoch it comes from.
pub(crate) struct SampledBatch<'a> {
    pub(crate) batch: &'a [usize],
    pub(crate) epoch: &'a [usize],
}

impl EpochSampler {
    pub(crate) fn new(seed: u64, examples: usize, per_batch: usize) -> Self {
        Self { seed, examples, per_batch, epoch: 0, order: epoch_order(seed, 0, examples) }
    }

    /// Number of batches in an epoch.
    pub(crate) fn steps_per_epoch(&self) -> usize {
        self.examples.div_ceil(self.per_batch)
    }

    /// Returns the global batch of a step (from 0).
    pub(crate) fn batch(&mut self, step: u64) -> SampledBatch<'_> {
        let steps_per_epoch = self.steps_per_epoch() as u64;
        let epoch = step / steps_per_epoch;
        if epoch != self.epoch {
            (self.epoch, self.order) = (epoch, epoch_order(self.seed, epoch, self.examples));
        }
        let first = (step % steps_per_epoch) as usize * self.per_batch;
        let last = (first + self.per_batch).min(self.order.len());
        SampledBatch { batch: &self.order[first..last], epoch: &self.order }
    }
}

/// Returns the candidates whose completions can be paired with the prompt at `position` for KTO's
/// reference point: those of other prompts, starting with the next one, cyclically.
pub fn partners(
    candidates: &[usize],
    position: usize,
    same_prompt: impl Fn(usize) -> bool,
) -> impl Iterator<Item = usize> {
    let count = candidates.len();
    let others = (1..count).map(move |offset| candidates[(position + offset) % count]);
    others.filter(move |candidate| !same_prompt(*candidate))
}

/// Builder of a micro-batch. Sequences with equal prompt tokens share one packed prompt.
#[derive(Default)]
struct MicroBatchBuilder<'a> {
    packer: Packer<'a>,
    prompts: Vec<(&'a [u32], PromptId)>,
    roles: Vec<Role>,
    corrupted: Vec<bool>,
}

impl<'a> MicroBatchBuilder<'a> {
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

/// Packs pairs (chosen and rejected alternate), then mismatched completions.
pub fn pack_pairs(pairs: &[&PairExample], mismatched: &[Encoded]) -> Result<MicroBatch, TrainError> {
    let mut builder = MicroBatchBuilder::default();
    for pair in pairs {
        builder.add(&pair.chosen, Role::Chosen, pair.row.is_corrupted());
        builder.add(&pair.rejected, Role::Rejected, pair.row.is_corrupted());
    }
    for encoded in mismatched {
        builder.add(encoded, Role::Mismatched { group: 0 }, false);
    }
    builder.pack()
}

/// Packs completions with binary labels, each with whether it is desirable, then mismatched
/// completions. They share one reference group.
pub fn pack_labelled(
    labelled: &[(&Encoded, bool)],
    mismatched: &[Encoded],
) -> Result<MicroBatch, TrainError> {
    let mut builder = MicroBatchBuilder::default();
    for (encoded, desirable) in labelled {
        builder.add(encoded, Role::Unpaired { desirable: *desirable, weight: 1.0, group: 0 }, false);
    }
    for encoded in mismatched {
        builder.add(encoded, Role::Mismatched { group: 0 }, false);
    }
    builder.pack()
}

/// Packs the examples `batch` of a global batch into micro-batches.
///
/// KTO's mismatched completions come from the examples that share a reference point, or from the
/// whole `epoch` if those have too few other prompts.
pub(crate) fn micro_batches(
    set: &TrainingSet,
    batch: &[usize],
    epoch: &[usize],
    settings: &Settings,
    encoder: &Encoder<'_>,
) -> Result<Vec<MicroBatch>, TrainError> {
    let per_micro = (settings.micro_batch_size / set.completions_per_example()).max(1);
    match set {
        TrainingSet::Unpaired(examples) => {
            unpaired_micro_batches(examples, batch, epoch, per_micro, settings, encoder)
        }
        TrainingSet::Paired(examples) => {
            let pack = |batch: &[usize]| {
                let pairs: Vec<_> = batch.iter().map(|index| &examples[*index]).collect();
                pack_pairs(&pairs, &[])
            };
            batch.chunks(per_micro).map(pack).collect()
        }
        TrainingSet::Completions(examples) => {
            let pack = |batch: &[usize]| {
                let mut builder = MicroBatchBuilder::default();
                for index in batch {
                    let SupervisedExample { encoded, weight, corrupted, .. } = &examples[*index];
                    builder.add(encoded, Role::Supervised { weight: *weight }, *corrupted);
                }
                builder.pack()
            };
            batch.chunks(per_micro).map(pack).collect()
        }
    }
}

/// Packs labelled completions, `per_micro` at a time, each micro-batch followed by its mismatched
/// completions.
fn unpaired_micro_batches(
    examples: &[UnpairedExample],
    batch: &[usize],
    epoch: &[usize],
    per_micro: usize,
    settings: &Settings,
    encoder: &Encoder<'_>,
) -> Result<Vec<MicroBatch>, TrainError> {
    let partners = settings.objective.kl_partners();
    let z0 = settings.objective.z0().unwrap_or(Z0::Global);
    let group_size = z0.group_size(batch.len(), per_micro);
    // The paper's code mixes the global batch before it splits it over devices.
    let scope = if z0 == Z0::MicroBatch { group_size } else { batch.len() };
    let scopes = batch.chunks(scope.max(1));
    let positions: Vec<(&[usize], usize)> = scopes
        .flat_map(|candidates| (0..candidates.len()).map(move |position| (candidates, position)))
        .collect();
    let encode = |(candidates, position): (&[usize], usize)| {
        let found = find_partners(examples, candidates, position, epoch, (z0, partners))?;
        let example = &examples[candidates[position]];
        // The prompt fitted with its own completion, and truncation does not depend on the
        // completion.
        let encode =
            |partner: &usize| encoder.encode(&example.prompt, &examples[*partner].completion).transpose();
        found.iter().filter_map(encode).collect::<Result<Vec<Encoded>, TrainError>>()
    };
    // Collected before the first error is returned, so that it is the same in every run.
    let mismatched: Vec<Result<_, TrainError>> = positions.into_par_iter().map(encode).collect();
    let mismatched = mismatched.into_iter().collect::<Result<Vec<Vec<Encoded>>, TrainError>>()?;
    let mut micro_batches = Vec::new();
    for (micro, batch) in batch.chunks(per_micro).enumerate() {
        let mut builder = MicroBatchBuilder::default();
        // Positions in the global batch, with their reference groups.
        let positions = || (micro * per_micro..).map(|position| (position, position / group_size.max(1)));
        for (index, (_, group)) in batch.iter().zip(positions()) {
            let UnpairedExample { encoded, desirable, weight, corrupted, .. } = &examples[*index];
            let role = Role::Unpaired { desirable: *desirable, weight: *weight, group };
            builder.add(encoded, role, *corrupted);
        }
        for (position, group) in positions().take(batch.len()) {
            for encoded in &mismatched[position] {
                builder.add(encoded, Role::Mismatched { group }, false);
            }
        }
        micro_batches.push(builder.pack()?);
    }
    Ok(micro_batches)
}

/// Returns `count` examples whose completions are paired with the prompt of the candidate at
/// `position`, for a reference point of scope `z0`.
///
/// Per micro-batch, these are the next candidates whatever their prompts, as in the paper: its
/// completions shifted by one. Otherwise, and where there are too few candidates, they are the next
/// ones with another prompt.
pub(crate) fn find_partners(
    examples: &[UnpairedExample],
    candidates: &[usize],
    position: usize,
    epoch: &[usize],
    (z0, count): (Z0, usize),
) -> Result<Vec<usize>, TrainError> {
    if z0 == Z0::MicroBatch && candidates.len() > count {
        return Ok(partners(candidates, position, |_| false).take(count).collect());
    }
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
            "KTO needs {count} completions of other prompts for each prompt, but one prompt has only {}; \
             add prompts, lower `kl_partners`, or use `objective: apo_zero_unpaired`, which needs none",
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
                assert_eq!(found.len(), others.count(), "each partner once");
            }
        }
    }

    fn example(prompt_id: &str) -> UnpairedExample {
        UnpairedExample {
            prompt_id: prompt_id.to_owned(),
            prompt: Vec::new(),
            completion: Vec::new(),
            encoded: Encoded {
                prompt: vec![1],
                completion: vec![2],
                truncation: crate::encode::Truncation::default(),
                adaptation: crate::encode::Adaptation::default(),
                boundary_merged: false,
            },
            desirable: true,
            weight: 1.0,
            corrupted: false,
        }
    }

    #[test]
    fn a_micro_batch_is_shifted_by_one_whatever_the_prompts() {
        let examples = ["a", "a", "b", "c", "c"].map(example);
        let find = |z0, candidates: &[usize], count| -> Vec<Vec<usize>> {
            let epoch = [0, 1, 2, 3, 4];
            let find =
                |position| find_partners(&examples, candidates, position, &epoch, (z0, count)).unwrap();
            (0..candidates.len()).map(find).collect()
        };
        // j = (i mod m) + 1 for i = 1 to m, as in version 5 of the paper.
        assert_eq!(find(Z0::MicroBatch, &[3, 0, 1], 1), [[0], [1], [3]]);
        assert_eq!(find(Z0::MicroBatch, &[3, 0, 1], 2), [[0, 1], [1, 3], [3, 0]]);
        // The global batch skips completions of the same prompt.
        assert_eq!(find(Z0::Global, &[3, 0, 1], 1), [[0], [3], [3]]);
        // The end of an epoch may leave one example, which cannot be its own partner.
        assert_eq!(find(Z0::MicroBatch, &[3], 1), [[0]]);
    }

    #[test]
    fn epochs_differ_and_repeat_by_seed() {
        assert_eq!(epoch_order(1, 0, 50), epoch_order(1, 0, 50));
        assert_ne!(epoch_order(1, 0, 50), epoch_order(1, 1, 50));
        assert_ne!(epoch_order(1, 0, 50), epoch_order(2, 0, 50));
    }

    #[test]
    fn the_sampler_covers_every_epoch_in_its_order() {
        let mut sampler = EpochSampler::new(7, 10, 4);
        assert_eq!(sampler.steps_per_epoch(), 3);
        for epoch in 0..2 {
            let order = epoch_order(7, epoch, 10);
            let batches: Vec<usize> =
                (0..3).flat_map(|step| sampler.batch(3 * epoch + step).batch.to_vec()).collect();
            assert_eq!(batches, order);
        }
    }
}
