//! Memory of a training step.
//!
//! The formulas follow the code of the layers: which matrices of a pass are alive at the same time.
//! The peak of a step is at one of seven moments, and the demand is that of the largest:
//!
//! 1. the forward pass at the last block,
//! 2. the head,
//! 3. the pass of the reference, when the policy's activations exist,
//! 4. the head's backward pass,
//! 5. the backward pass at the last block,
//! 6. the backward pass at the first block, when all gradients exist,
//! 7. the end, at the embedding.
//!
//! `tests/memory.rs` compares the result with the counts of an allocator.

use candle_core::quantized::GgmlDType;
use serde::Serialize;

use super::BatchSize;
use crate::{Architecture, DeviceKind, device::KernelGroup, layers::Head};

/// Properties of a model in training that the memory of a step depends on.
#[derive(Debug, Clone)]
pub struct Footprint<'a> {
    /// Architecture of the model.
    pub architecture: &'a Architecture,
    /// Shapes `[out, in]` of the linear layers of a block.
    pub linears: Vec<[usize; 2]>,
    /// Bytes of the frozen weights on this rank. In full training, those of the reference model,
    /// which is the model that training started from.
    pub frozen: u64,
    /// Trained weights.
    pub trained: TrainedElements,
    /// Moments of the optimizer per trained weight, in f32: two with AdamW.
    pub moments: u64,
    /// Ranks over which gradients and optimizer state are sharded; 1 if they are not.
    pub state_shards: u64,
    /// Rank of the adapter; None in full training.
    pub rank: Option<u64>,
    /// Bytes of one element of a weight, and of an activation that is a factor of products.
    pub element_bytes: u64,
    /// Bytes of one element of other activations, such as the residual stream, and of the results
    /// of backward passes. Differs from `element_bytes` for 16-bit weights on the CPU.
    pub stream_bytes: u64,
    /// Bytes that an element of a frozen matrix takes while a product dequantises it; 0 if products
    /// read the stored matrices.
    pub dequantised_bytes: u64,
    /// Bytes of the matrices of a block as they are gathered from all ranks for its passes; 0 if
    /// they are not sharded.
    pub gathered_block: u64,
    /// Kind of the device.
    pub device: DeviceKind,
    /// Groups of kernels in use on a GPU: their operations have no temporary tensors.
    pub kernels: Vec<KernelGroup>,
    /// True if the reference runs while the activations of the policy are saved.
    pub reference_pass: bool,
}

/// Trained weights of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainedElements {
    /// Number of elements.
    pub count: u64,
    /// Number of elements of the weights that a rank keeps: fewer if they are sharded.
    pub on_rank: u64,
    /// Bytes of one element.
    pub element_bytes: u64,
}

impl TrainedElements {
    /// Returns the bytes of the elements that a rank keeps.
    pub fn bytes(&self) -> u64 {
        self.on_rank * self.element_bytes
    }

    /// Returns the number of weights with f32 master weights on `shards` ranks: all but the f32
    /// shards, which are updated in place.
    fn with_master_shard(&self, shards: u64) -> u64 {
        let in_place =
            if self.element_bytes < 4 { 0 } else { (self.count - self.on_rank) * shards / (shards - 1) };
        self.count - in_place
    }

    /// Returns true if ranks keep parts of the weights.
    fn is_sharded(&self) -> bool {
        self.on_rank < self.count
    }

    /// Returns the bytes of the f32 master weights; 0 if the weights are f32 themselves.
    pub fn master_bytes(&self) -> u64 {
        if self.element_bytes < 4 { self.count * 4 } else { 0 }
    }
}

/// Peak memory of a training step in bytes, by use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MemoryDemand {
    /// Frozen weights, including the reference model's.
    pub frozen: u64,
    /// Trained weights.
    pub trained: u64,
    /// Gradients of the trained weights.
    pub gradients: u64,
    /// The optimizer's moments, in f32.
    pub moments: u64,
    /// f32 copies of trained half-precision weights, which the optimizer updates.
    pub master_weights: u64,
    /// Activations saved by forward passes for backward passes.
    pub activations: u64,
    /// Workspace: temporary tensors at the peak of the step.
    pub workspace: u64,
}

impl MemoryDemand {
    /// Returns the sum of all uses.
    pub fn total(&self) -> u64 {
        let Self { frozen, trained, gradients, moments, master_weights, activations, workspace } = self;
        frozen + trained + gradients + moments + master_weights + activations + workspace
    }
}

/// Memory that changes during a step, at one of its moments.
#[derive(Clone, Copy)]
struct Moment {
    gradients: u64,
    activations: u64,
    workspace: u64,
}

impl Moment {
    fn total(&self) -> u64 {
        self.gradients + self.activations + self.workspace
    }
}

/// Returns the bytes that an element of a matrix in blocks of `kind` takes while a product
/// dequantises it, in a model with elements of `element_bytes`.
pub(crate) fn dequantised_bytes(kind: GgmlDType, element_bytes: u64, device: DeviceKind) -> u64 {
    match (device, kind) {
        // A bf16 tensor, which a bf16 model reads itself.
        (DeviceKind::Gpu, GgmlDType::BF16) if element_bytes == 2 => 0,
        // candle's kernels dequantise to f32 first.
        (DeviceKind::Gpu, kind) if kind != GgmlDType::BF16 && element_bytes < 4 => 4 + element_bytes,
        _ => element_bytes,
    }
}

impl Footprint<'_> {
    /// Returns the number of elements of the largest matrix of a block.
    fn largest_matrix(&self) -> u64 {
        self.linears.iter().map(|[out, into]| (out * into) as u64).max().unwrap_or(0)
    }

    /// Predicts the peak memory of a step over micro-batches of this size, with activation
    /// checkpointing in the first `recomputed` blocks: these save their inputs only.
    ///
    /// `accumulates` means that a step has several micro-batches.
    pub fn demand(&self, batch: &BatchSize, recomputed: u64, accumulates: bool) -> MemoryDemand {
        let a = self.architecture;
        let row = self.row_bytes();
        let BatchSize { rows, gradient_rows, scored, gradient_scored, .. } = *batch;
        let (layers, vocabulary) =
            (a.layers as u64, a.vocabulary as u64 * a.hidden as u64 * self.element_bytes);
        let weights = self.trained.bytes();
        let shards = self.state_shards.max(1);
        let sharded_state = shards > 1;
        let moments = (self.trained.count * self.moments * 4).div_ceil(shards);
        // A rank's shards of gradients and of the weights that it updates are f32.
        let in_shard = |elements: u64| (elements * 4).div_ceil(shards);
        let (all_gradients, master_weights) = if sharded_state {
            (in_shard(self.trained.count), in_shard(self.trained.with_master_shard(shards)))
        } else {
            (weights, self.trained.master_bytes())
        };
        let full = self.rank.is_none();
        let saved = self.saved(&row);
        // Adapters in the type of products, if that is another one.
        let factors = if full || self.trained.element_bytes == self.element_bytes {
            0
        } else {
            self.trained.count * self.element_bytes / layers.max(1)
        };
        let stored = |blocks: u64| {
            let inputs = blocks.min(recomputed);
            gradient_rows * (inputs * row.hidden + (blocks - inputs) * saved) + (blocks - inputs) * factors
        };
        // The next block is gathered while one computes. In host memory, its parts exist as well.
        let gathered = self.gathered_block * if self.device == DeviceKind::Gpu { 2 } else { 3 };
        let dense = gathered + self.dequantised_bytes * self.largest_matrix();
        let shared = self.shared(rows, batch.attended);
        // Where only some rows are saved, the last block's activations exist in full and as a copy.
        let copied = if gradient_rows < rows && recomputed < layers {
            rows * (row.hidden + saved) + gradient_rows * saved
        } else {
            0
        };
        let block = rows * row.hidden + self.forward(&row, batch) + dense;
        let forward = shared + copied.max(block);

        // Logits come in chunks, either of rows with gradient or of rows without.
        let logits = self.in_f32(a.vocabulary as u64 * self.element_bytes);
        let chunk = |rows: u64| (Head::CHUNK_BYTES as u64 / logits).max(1).min(rows) * logits;
        let (with, without) = (chunk(gradient_scored), chunk(scored - gradient_scored));
        // With the gradient of the logits, a factor of products.
        let both = with + with / self.stream_bytes * self.element_bytes;
        let composed = if self.is_fused(KernelGroup::LogProb) { 0 } else { 4 * with.max(without) };
        let unit = gradient_scored * row.hidden;
        // A frozen head computes the gradient of its rows in the forward pass, a trained one in the
        // backward pass.
        let last = rows * row.hidden + scored * (row.hidden + row.normed);
        let (head, head_backward) = if full {
            (last + with.max(without) + composed, 4 * unit + 3 * with + composed + 2 * vocabulary)
        } else {
            (last + unit + (composed + without.max(both)).max(unit), 0)
        };

        // What the head has saved, and the reference's forward pass.
        let reference = if self.reference_pass {
            let of_head = if full { 0 } else { scored * row.hidden + unit };
            of_head + (shared + block).max(last + with.max(without) + composed)
        } else {
            0
        };
        // The gradient of the head's rows scattered to all rows, twice, and what the head has
        // saved.
        let spread = 2 * gradient_rows * row.hidden + 3 * unit;
        let again = if recomputed > 0 { gradient_rows * (saved - row.hidden) } else { 0 };
        // A weight gradient; when accumulating, also its sum with the previous one.
        // With sharded state, it exists in f32 as well, twice while it is summed.
        let of_weight = match (full, sharded_state) {
            (false, _) => 0,
            (true, false) => self.largest_matrix() * self.element_bytes * if accumulates { 2 } else { 1 },
            (true, true) => self.largest_matrix() * (self.element_bytes + 8),
        };
        let backward = spread
            + again
            + self.shared(gradient_rows, batch.gradient_attended)
            + self.backward(&row, batch)
            + if full && !self.trained.is_sharded() { of_weight } else { dense + of_weight };

        let before = if accumulates { all_gradients } else { 0 };
        let elements = vocabulary / self.element_bytes;
        let of_head = if sharded_state { in_shard(elements) } else { vocabulary };
        let with_head = if full { before.max(of_head) } else { before };
        let first_block = stored(layers) - stored(layers - 1);
        let embedding = match (full, sharded_state) {
            (false, _) => 0,
            (true, false) => (if accumulates { 3 } else { 2 }) * vocabulary,
            (true, true) => vocabulary + 8 * elements,
        };
        let moment = |gradients, activations, workspace| Moment { gradients, activations, workspace };
        let peak = [
            moment(before, stored(layers - 1), forward),
            moment(before, stored(layers), head),
            moment(before, stored(layers), reference),
            moment(before, stored(layers), head_backward),
            moment(with_head, stored(layers), backward),
            moment(all_gradients, first_block, backward),
            moment(all_gradients, 0, spread + embedding),
        ]
        .into_iter()
        .max_by_key(Moment::total);
        let Moment { gradients, activations, workspace } = peak.unwrap_or(moment(0, 0, 0));
        let demand = MemoryDemand {
            frozen: self.frozen,
            trained: weights,
            gradients,
            moments,
            master_weights,
            activations,
            workspace,
        };
        // Small tensors and the rounding of allocations, which are at most 0.3 % on an emulated GPU.
        let small = if self.device == DeviceKind::Gpu { demand.total() / 256 } else { 0 };
        MemoryDemand { workspace: workspace + small, ..demand }
    }

    /// Returns the fewest blocks to recompute so that a step fits into `bytes`; None if it does not
    /// fit even when all are.
    pub fn recomputed_within(&self, bytes: u64, batch: &BatchSize, accumulates: bool) -> Option<u64> {
        let fits = |recomputed: &u64| self.demand(batch, *recomputed, accumulates).total() <= bytes;
        (0..=self.architecture.layers as u64).find(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantised_matrices_of_bf16_models_pass_through_f32_on_a_gpu() {
        let (gpu, cpu) = (DeviceKind::Gpu, DeviceKind::Cpu);
        for (kind, element_bytes, device, expected) in [
            (GgmlDType::Q8_0, 2, gpu, 6),
            (GgmlDType::Q4K, 2, gpu, 6),
            (GgmlDType::Q8_0, 4, gpu, 4),
            // A bf16 model reads bf16 matrices themselves.
            (GgmlDType::BF16, 2, gpu, 0),
            (GgmlDType::BF16, 4, gpu, 4),
            (GgmlDType::Q8_0, 2, cpu, 2),
        ] {
            assert_eq!(dequantised_bytes(kind, element_bytes, device), expected, "{kind:?} {device:?}");
        }
    }
}
