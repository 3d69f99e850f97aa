//! How much memory a training step takes, without taking it.
//!
//! The numbers follow the code of the layers: which matrices of a pass are alive at once. A step goes through six moments
//! that can be the largest, and its demand is that of the largest one: the forward pass at the last block, the head, the head's
//! own backward pass, the backward pass at the last block, that at the first block, when all gradients are there, and the end.
//!
//! `tests/memory.rs` compares it with what an allocator counts.

use candle_core::{Device, quantized::GgmlDType};
use serde::Serialize;

use crate::{
    Architecture, Dtype, MlpKind, ModelError, PackedBatch, Quantization, Residual, Train, layers::Head,
    weights::Count,
};

/// Where a step runs, by how its operations use memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Fused operations: hardly any temporaries.
    Cpu,
    /// Operations composed of others, with their temporaries.
    Gpu,
}

impl Place {
    /// Where models are loaded: on a GPU, if there is one and this is a build for it.
    pub fn here() -> Self {
        if candle_core::utils::cuda_is_available() { Self::Gpu } else { Self::Cpu }
    }

    /// Where a device is.
    pub fn of(device: &Device) -> Self {
        if device.is_cpu() { Self::Cpu } else { Self::Gpu }
    }
}

/// The sizes of a micro-batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BatchSize {
    /// Rows: tokens of prompts, counted once, and of completions but for their last ones.
    pub rows: u64,
    /// Rows that may receive a gradient.
    pub gradient_rows: u64,
    /// Completion tokens.
    pub scored: u64,
    /// Completion tokens that may receive a gradient.
    pub gradient_scored: u64,
    /// The longest sequence.
    pub longest: u64,
    /// Σ over rows of the rows that each attends to, itself included.
    pub attended: u64,
    /// The same of rows that may receive a gradient.
    pub gradient_attended: u64,
}

impl BatchSize {
    /// The sizes of a packed batch.
    pub fn of(batch: &PackedBatch) -> Self {
        // A row sees the prompt and its own branch up to itself: as many rows as its position says.
        let attended = |positions: &[u32]| positions.iter().map(|position| u64::from(*position) + 1).sum();
        Self {
            rows: batch.rows() as u64,
            gradient_rows: batch.gradient_rows as u64,
            scored: batch.scored.len() as u64,
            gradient_scored: batch.gradient_scored as u64,
            longest: batch.positions.iter().max().map_or(0, |last| u64::from(*last) + 1),
            attended: attended(&batch.positions),
            gradient_attended: attended(&batch.positions[..batch.gradient_rows]),
        }
    }
}

/// What of a model in training the memory of a step depends on.
#[derive(Debug, Clone)]
pub struct Footprint<'a> {
    /// The shape.
    pub architecture: &'a Architecture,
    /// The shapes `[out, in]` of the linear layers of a block.
    pub linears: Vec<[usize; 2]>,
    /// Bytes of the weights that are not trained, as far as they are kept here; where all are, of those that they started from,
    /// which are the reference.
    pub frozen: u64,
    /// Numbers that are trained, and the bytes of one.
    pub trained: (u64, u64),
    /// Rank of the adapter; None if all weights are trained.
    pub rank: Option<u64>,
    /// Bytes of a number of an activation.
    pub element: u64,
    /// Whether frozen matrices are made dense for every product.
    pub quantised: bool,
    /// Whether frozen matrices are put together of the parts of a group for every product.
    pub sharded: bool,
    /// Where it runs.
    pub place: Place,
}

/// What a training step takes, in bytes, at its largest moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Demand {
    /// Weights that are not trained, among them the reference's.
    pub frozen: u64,
    /// Weights that are.
    pub trained: u64,
    /// Their gradients.
    pub gradients: u64,
    /// The optimizer's two moments, in f32.
    pub moments: u64,
    /// What forward passes keep for backward passes.
    pub activations: u64,
    /// What is at hand at the largest moment, beside all of that.
    pub at_hand: u64,
}

impl Demand {
    /// All of it.
    pub fn total(&self) -> u64 {
        let Self { frozen, trained, gradients, moments, activations, at_hand } = self;
        frozen + trained + gradients + moments + activations + at_hand
    }
}

/// Bytes of one row of each kind of matrix.
struct Row {
    hidden: u64,
    query: u64,
    key: u64,
    /// One of the MLP's wide matrices, and how many of them a block keeps.
    wide: u64,
    kept_wide: u64,
    /// x·Aᵀ of one linear layer, and how many layers there are.
    down: u64,
    linears: u64,
}

impl<'a> Footprint<'a> {
    /// That of a model that is not there yet: what of it is trained, the type of its weights, and how frozen matrices are kept
    /// if not in that. What a file keeps (`quantization: file`) is taken for 4.5 bits. Each of `shards` ranks keeps its part of
    /// these matrices.
    pub fn planned(
        architecture: &'a Architecture,
        (train, dtype, quantization): (Train, Dtype, Option<Quantization>),
        shards: u64,
        place: Place,
    ) -> Result<Self, ModelError> {
        let Count { numbers, matrices } = Count::of(architecture)?;
        let element = match dtype {
            Dtype::F32 => 4,
            Dtype::Bf16 => 2,
        };
        let in_matrices: u64 = matrices.iter().map(|[out, into]| (out * into) as u64).sum();
        let others = (numbers as u64 - in_matrices) * element;
        let kept = match quantization {
            None => in_matrices * element,
            Some(quantization) => {
                let kind = quantization.blocks().unwrap_or(GgmlDType::Q4_0);
                (in_matrices * kind.type_size() as u64).div_ceil(kind.block_size() as u64)
            }
        };
        let (trained, rank) = match train {
            Train::Full => ((numbers as u64, element), None),
            // Adapters are in f32, whatever the weights are in.
            Train::Lora(lora) => {
                let adapter = matrices.iter().map(|[out, into]| (lora.r * (out + into)) as u64).sum();
                ((adapter, 4), Some(lora.r as u64))
            }
        };
        // Only what lies beside an adapter is kept in parts.
        let sharded = shards > 1 && rank.is_some();
        let frozen = if sharded { kept.div_ceil(shards) } else { kept } + others;
        let linears = matrices[..matrices.len() / architecture.layers].to_vec();
        let quantised = quantization.is_some();
        Ok(Self { architecture, linears, frozen, trained, rank, element, quantised, sharded, place })
    }

    fn row(&self) -> Row {
        let (a, e) = (self.architecture, self.element);
        Row {
            hidden: a.hidden as u64 * e,
            query: (a.query_heads * a.head_dim) as u64 * e,
            key: (a.key_heads * a.head_dim) as u64 * e,
            wide: a.intermediate as u64 * e,
            kept_wide: if a.mlp == MlpKind::GatedSilu { 2 } else { 1 },
            down: self.rank.unwrap_or(0) * e,
            linears: self.linears.len() as u64,
        }
    }

    /// Bytes that a block keeps of a row. Its input is the output of the block before it.
    fn kept(&self, row: &Row) -> u64 {
        let a = self.architecture;
        let middle = if a.residual == Residual::Sequential { row.hidden } else { 0 };
        let unnormed = if a.head_norms { row.query + row.key } else { 0 };
        row.hidden
            + middle
            + unnormed
            + 2 * (row.query + row.key)
            + row.kept_wide * row.wide
            + row.linears * row.down
    }

    /// Bytes at hand in a block's forward pass, of a row, beside its input; what it keeps is among them.
    fn forward(&self, row: &Row) -> u64 {
        // At the activation: both normed inputs, the result, what goes through the activation, and what is kept.
        let mlp = self.kept(row) + 2 * row.hidden + row.wide;
        // At the products between rows: queries and keys before and after they are rotated.
        let attention = 2 * row.hidden + 5 * row.query + 3 * row.key + row.linears * row.down;
        match self.place {
            Place::Cpu => mlp.max(attention),
            Place::Gpu => (mlp + 2 * row.wide).max(attention + 3 * row.query) + 3 * self.wide(row.hidden),
        }
    }

    /// Bytes at hand in a block's backward pass, of a row, beside what it keeps and the gradient that comes in.
    fn backward(&self, row: &Row) -> u64 {
        let mlp = row.hidden + (row.kept_wide + 2) * row.wide;
        let attention =
            (4 * row.hidden + 3 * row.query + 4 * row.key).saturating_sub(row.kept_wide * row.wide);
        match self.place {
            Place::Cpu => mlp.max(attention),
            Place::Gpu => (mlp + 5 * row.wide).max(attention + 4 * row.query) + 4 * self.wide(row.hidden),
        }
    }

    /// The bytes of a row in f32, which composed operations compute in.
    fn wide(&self, row: u64) -> u64 {
        row / self.element * self.element.max(4)
    }

    /// The probabilities of one sequence under all heads, and its repeated keys and values, where they are formed at once.
    fn between_rows(&self, longest: u64, copies: u64) -> u64 {
        let a = self.architecture;
        let heads = a.query_heads as u64;
        match self.place {
            Place::Cpu => 0,
            Place::Gpu => {
                copies * heads * longest * longest * 4
                    + 4 * heads * longest * a.head_dim as u64 * self.element
            }
        }
    }

    /// Bytes of the largest matrix of a block, dense.
    fn largest_matrix(&self) -> u64 {
        let numbers = self.linears.iter().map(|[out, into]| (out * into) as u64);
        numbers.max().unwrap_or(0) * self.element
    }

    /// What a step over micro-batches of this size takes, if the first `recomputed` blocks keep their inputs only.
    /// `accumulates` says that there are several micro-batches to a step.
    pub fn demand(&self, batch: &BatchSize, recomputed: u64, accumulates: bool) -> Demand {
        let a = self.architecture;
        let row = self.row();
        let BatchSize { rows, gradient_rows, scored, gradient_scored, longest, .. } = *batch;
        let (layers, vocabulary) = (a.layers as u64, a.vocabulary as u64 * a.hidden as u64 * self.element);
        let (trained, size) = self.trained;
        let (weights, gradients) = (trained * size, trained * size);
        let moments = trained * 8;

        let full = self.rank.is_none();
        let kept = self.kept(&row);
        let stored = |blocks: u64| {
            let inputs = blocks.min(recomputed);
            gradient_rows * (inputs * row.hidden + (blocks - inputs) * kept)
        };
        // Put together of parts, a matrix is there twice for a moment.
        let copies = u64::from(self.quantised || self.sharded) + u64::from(self.sharded);
        let dense = copies * self.largest_matrix();
        let rotation = rows * a.head_dim as u64 * self.element;
        // The residual stream and what a block has beside it; or, where only some rows are kept, those of the last block
        // beside all of it.
        let copied = if gradient_rows < rows && recomputed < layers {
            rows * (row.hidden + kept) + gradient_rows * kept
        } else {
            0
        };
        let forward = rotation
            + copied.max(rows * (row.hidden + self.forward(&row)) + dense + self.between_rows(longest, 3));

        // Logits come in chunks, of rows with gradient and of those without.
        let logits = a.vocabulary as u64 * self.element;
        let chunk = |rows: u64| (Head::CHUNK_BYTES as u64 / logits).max(1).min(rows) * logits;
        let (with, without) = (chunk(gradient_scored), chunk(scored - gradient_scored));
        let composed = if self.place == Place::Gpu { 4 * self.wide(with.max(without)) } else { 0 };
        let unit = gradient_scored * row.hidden;
        // The gradient of the head's rows is found on the way forward if the head is frozen, else on the way back.
        let last = rows * row.hidden + 2 * scored * row.hidden;
        let (head, head_backward) = if full {
            (last + with.max(without) + composed, 4 * unit + 3 * with + composed + 2 * vocabulary)
        } else {
            (last + unit + (composed + without.max(2 * with)).max(unit), 0)
        };

        // The gradient of the head's rows, spread over all rows, twice, and what the head has kept.
        let spread = 2 * gradient_rows * row.hidden + 3 * unit;
        let again = if recomputed > 0 { gradient_rows * (kept - row.hidden) } else { 0 };
        // A gradient, and where there was one already, the sum of both.
        let of_weight = if full { self.largest_matrix() * if accumulates { 2 } else { 1 } } else { 0 };
        let backward = spread
            + again
            + gradient_rows * self.backward(&row)
            + dense.max(of_weight)
            + self.between_rows(longest, 6);

        let all = gradients;
        let before = if accumulates { all } else { 0 };
        let of_head = if full { before.max(vocabulary) } else { before };
        let of_one = stored(layers) - stored(layers - 1);
        let embedding = if full { (if accumulates { 3 } else { 2 }) * vocabulary } else { 0 };
        let moments_of_a_step = [
            (before, stored(layers - 1), forward),
            (before, stored(layers), head),
            (before, stored(layers), head_backward),
            (of_head, stored(layers), backward),
            (all, of_one, backward),
            (all, 0, spread + embedding),
        ];
        let largest =
            moments_of_a_step.into_iter().max_by_key(|(gradients, stored, hand)| gradients + stored + hand);
        let (gradients, activations, at_hand) = largest.unwrap_or_default();
        Demand { frozen: self.frozen, trained: weights, gradients, moments, activations, at_hand }
    }

    /// How many of the first blocks must keep their inputs only so that a step takes no more than `bytes`; None if even all
    /// of them are not enough.
    pub fn recomputed_within(&self, bytes: u64, batch: &BatchSize, accumulates: bool) -> Option<u64> {
        let fits = |recomputed: &u64| self.demand(batch, *recomputed, accumulates).total() <= bytes;
        (0..=self.architecture.layers as u64).find(fits)
    }
}
