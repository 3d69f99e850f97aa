//! The decoder: forward and backward pass.

mod build;
mod divergence;
mod gathered;
mod generate;
mod trainable;

pub use generate::{Generated, GenerationConfig, Prompt, Sampling};

use candle_core::{DType, Device, Result, Tensor};

use crate::{
    Architecture,
    architecture::{AttentionHeads, EmbeddingScale, RotaryTable},
    cost::{BatchSize, Footprint, TrainedElements, dequantised_bytes},
    device::KernelGroup,
    layers::{BlockContext, DecoderBlock, Head, LayerContext, SavedBlock, SavedHead},
    ops::{self, AttentionBatch},
    pack::{PackedBatch, ScoredToken},
    parameters::{Gradients, Parameters, WeightTensor},
    weights::LinearWeight,
};
use gathered::gathered;
/// Activation checkpointing: activations that a forward pass saves for the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activations {
    /// Saves the activations of every block: fastest.
    Keep,
    /// Saves the input of every block only and recomputes the rest: smallest.
    Recompute,
    /// Recomputes this many of the first blocks.
    RecomputeFirst(usize),
    /// Recomputes as few blocks as lets weights, optimizer and activations fit into this many
    /// bytes. These are the first blocks: when they are recomputed, the activations of the last
    /// ones have been freed.
    Within(u64),
}

impl Activations {
    /// Divides a memory budget among `runs` concurrent runs that share `frozen` bytes of weights.
    #[must_use]
    pub fn per_run(self, runs: usize, frozen: u64) -> Self {
        match self {
            Self::Within(bytes) => Self::Within(frozen + bytes.saturating_sub(frozen) / runs.max(1) as u64),
            other => other,
        }
    }
}

/// Use of the adapter in a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adapter {
    /// Adapter switched on: log-probs of the policy.
    On,
    /// Adapter switched off: log-probs of the base model.
    Off,
}

/// Decoder language model that returns log-probs of completions and backpropagates through them.
#[derive(Debug, Clone)]
pub struct Decoder {
    pub(crate) architecture: Architecture,
    pub(crate) embedding: WeightTensor,
    pub(crate) blocks: Vec<DecoderBlock>,
    pub(crate) head: Head,
    pub(crate) parameters: Parameters,
    pub(crate) rotary: RotaryTable,
    /// Rotation in blocks with a sliding window, if it differs.
    pub(crate) sliding_rotary: Option<RotaryTable>,
    /// Ranks over which the state of its training is sharded.
    pub(crate) state_shards: usize,
}

/// Indices of a batch on the device.
struct BatchIndices {
    /// Token id of each row.
    tokens: Tensor,
    /// Row that predicts each scored token.
    rows: Tensor,
    /// Id of each scored token.
    targets: Tensor,
}

/// Saved activations of one block.
enum BlockActivations {
    All(Box<SavedBlock>),
    /// Input, from which the others are recomputed.
    Input(Tensor),
}

/// State that [`Decoder::forward`] saves for [`Decoder::backward`].
pub struct Saved {
    log_probs: Vec<f64>,
    batch: PackedBatch,
    blocks: Vec<BlockActivations>,
    head: SavedHead,
}

impl Saved {
    /// Returns log π of every scored token in nats, in the order of
    /// [`PackedBatch::scored_sequences`].
    pub fn token_log_probs(&self) -> &[f64] {
        &self.log_probs
    }
}

impl Decoder {
    /// Returns the architecture.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Returns the trainable weights.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Returns the device of the weights.
    pub fn device(&self) -> &Device {
        self.embedding.value().device()
    }

    /// Returns the element type of the weights.
    pub fn dtype(&self) -> DType {
        self.embedding.value().dtype()
    }

    /// Returns true if results of a row of a batch do not depend on the rows of other sequences,
    /// bit for bit. Products of a GPU may sum in another order if the number of rows differs.
    pub fn rows_are_independent(&self) -> bool {
        self.device().is_cpu()
    }

    /// Returns the name of the kernels of matrix products with weights on this machine.
    pub fn kernels(&self) -> &'static str {
        ops::product_kernels(self.dtype(), self.device())
    }

    pub(crate) fn context<'a>(&self, batch: &'a PackedBatch, adapter: Adapter) -> Result<BlockContext<'a>> {
        // Angles of half-precision models are f32.
        let dtype = if self.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let cos_sin = |table: &RotaryTable| table.cos_sin(&batch.positions, dtype, self.device());
        let heads = self.architecture.heads();
        let attention = |heads| AttentionBatch::new(&batch.trees, heads);
        let full = LayerContext { rotation: cos_sin(&self.rotary)?, attention: attention(heads) };
        let sliding = match &self.architecture.window {
            None => None,
            Some(window) => {
                let rotation = self.sliding_rotary.as_ref().map(cos_sin).transpose()?;
                let rotation = rotation.unwrap_or_else(|| full.rotation.clone());
                // A window that hides no row of this batch is full attention.
                let longest = batch.positions.iter().max().map_or(0, |last| *last as usize + 1);
                let window = Some(window.positions).filter(|positions| *positions < longest);
                Some(LayerContext { rotation, attention: attention(AttentionHeads { window, ..heads }) })
            }
        };
        Ok(BlockContext {
            pairs: self.architecture.rope.pairs,
            adapter: adapter == Adapter::On,
            operands: self.dtype(),
            full,
            sliding,
        })
    }

    /// Returns the rows of token ids, `[rows]`, in the residual stream.
    pub(crate) fn embed(&self, tokens: &Tensor) -> Result<Tensor> {
        let rows = self.scale_embedding(self.embedding.value().index_select(tokens, 0)?)?;
        rows.to_dtype(ops::stream_dtype(self.dtype(), self.device()))
    }

    /// Multiplies rows of the embedding, or of its gradient, by the architecture's factor, which is
    /// rounded to the type of the weights.
    fn scale_embedding(&self, rows: Tensor) -> Result<Tensor> {
        match self.architecture.embedding_scale {
            EmbeddingScale::One => Ok(rows),
            EmbeddingScale::RootHidden => {
                let root = Tensor::new((self.architecture.hidden as f64).sqrt(), &Device::Cpu)?;
                let root = root.to_dtype(self.dtype())?.to_dtype(rows.dtype())?;
                rows.broadcast_mul(&root.to_device(rows.device())?)
            }
        }
    }

    fn indices(&self, batch: &PackedBatch) -> Result<BatchIndices> {
        let of = |index: fn(&ScoredToken) -> u32| batch.scored.iter().map(index).collect::<Vec<_>>();
        let (rows, targets) = (of(|scored| scored.row), of(|scored| scored.target));
        let [tokens, rows, targets] = ops::upload([&batch.tokens, &rows, &targets], self.device())?;
        Ok(BatchIndices { tokens, rows, targets })
    }

    /// Computes log π of every completion in nats, by the index from
    /// [`Packer::add_completion`](crate::Packer::add_completion).
    pub fn log_probs(&self, batch: &PackedBatch, adapter: Adapter) -> Result<Vec<f64>> {
        Ok(batch.sum_by_sequence(&self.token_log_probs(batch, adapter)?))
    }

    /// Computes log π of every scored token in nats, in the order of
    /// [`PackedBatch::scored_sequences`].
    pub fn token_log_probs(&self, batch: &PackedBatch, adapter: Adapter) -> Result<Vec<f64>> {
        let (x, indices) = self.scored_rows(batch, adapter)?;
        Ok(self.head.forward(&x, &indices.targets, 0)?.0)
    }

    /// Computes the output rows of the last block that predict scored tokens.
    fn scored_rows(&self, batch: &PackedBatch, adapter: Adapter) -> Result<(Tensor, BatchIndices)> {
        self.check(batch)?;
        let (context, indices) = (self.context(batch, adapter)?, self.indices(batch)?);
        let mut x = self.embed(&indices.tokens)?;
        for block in gathered(self.blocks.iter()) {
            x = block?.forward(&x, &context)?.0;
        }
        Ok((x.index_select(&indices.rows, 0)?, indices))
    }

    /// Computes [`log_probs`](Self::log_probs) with the adapter on, and saves the state for
    /// [`backward`](Self::backward).
    pub fn forward(&self, batch: &PackedBatch, activations: Activations) -> Result<(Vec<f64>, Saved)> {
        self.check(batch)?;
        let (context, indices) = (self.context(batch, Adapter::On)?, self.indices(batch)?);
        let mut x = self.embed(&indices.tokens)?;
        let (mut blocks, mut recomputed) = (Vec::with_capacity(self.blocks.len()), None);
        for (index, block) in gathered(self.blocks.iter()).enumerate() {
            let (y, saved) = block?.forward(&x, &context)?;
            let recomputed = *recomputed.get_or_insert_with(|| match activations {
                Activations::Keep => 0,
                Activations::Recompute => self.blocks.len(),
                Activations::RecomputeFirst(blocks) => blocks.min(self.blocks.len()),
                Activations::Within(bytes) => self.recomputed_within(bytes, batch),
            });
            blocks.push(if index < recomputed {
                BlockActivations::Input(first_rows(&x, batch.gradient_rows)?)
            } else {
                BlockActivations::All(Box::new(saved.map(&|saved| first_rows(saved, batch.gradient_rows))?))
            });
            x = y;
        }
        let x = x.index_select(&indices.rows, 0)?;
        let (log_probs, head) = self.head.forward(&x, &indices.targets, batch.gradient_scored)?;
        let sums = batch.sum_by_sequence(&log_probs);
        Ok((sums, Saved { log_probs, batch: batch.gradient_part(), blocks, head }))
    }

    /// Returns how many of the first blocks to recompute so that the step fits into `bytes`; all of
    /// them if it does not fit.
    fn recomputed_within(&self, bytes: u64, batch: &PackedBatch) -> usize {
        // A pass does not know whether other micro-batches have left gradients, or whether the
        // reference runs after it; assume so.
        let footprint = Footprint { reference_pass: true, ..self.footprint() };
        let recomputed = footprint.recomputed_within(bytes, &BatchSize::from(batch), true);
        recomputed.map_or(self.blocks.len(), |recomputed| recomputed as usize)
    }

    /// Declares that gradients, optimizer state and the reference model are sharded over this many
    /// ranks, for [`footprint`](Self::footprint).
    pub fn set_state_shards(&mut self, ranks: usize) {
        self.state_shards = ranks.max(1);
    }

    /// Returns the bytes on this rank of the reference model of full training.
    fn reference_bytes(&self) -> usize {
        let all = self.parameters.elements();
        let linears = self.blocks.iter().flat_map(DecoderBlock::linears);
        let matrices: usize =
            linears.filter_map(|linear| linear.weight.dims().ok()).map(|(out, into)| out * into).sum();
        (all - matrices + matrices.div_ceil(self.state_shards)) * self.parameters.element_bytes()
    }

    /// Returns the bytes of a matrix of a sharded model, or of its reference, as it is gathered; 0
    /// if neither is sharded.
    fn gathered_bytes(&self, weight: &LinearWeight) -> usize {
        match (weight.dims(), self.state_shards > 1) {
            (Ok((out, into)), true) => out * into * self.dtype().size_in_bytes(),
            _ => weight.gathered_bytes(),
        }
    }

    /// Returns the properties that the memory of a training step depends on.
    pub fn footprint(&self) -> Footprint<'_> {
        let linears = || self.blocks.first().into_iter().flat_map(DecoderBlock::linears);
        let rank: Option<usize> = linears().find_map(|linear| linear.lora.as_ref()?.a.value().dim(0).ok());
        Footprint {
            architecture: &self.architecture,
            linears: linears().filter_map(|linear| linear.weight.dims().ok().map(Into::into)).collect(),
            // Full training keeps the initial weights as the reference model.
            frozen: if rank.is_none() { self.reference_bytes() } else { self.frozen_bytes() } as u64,
            trained: TrainedElements {
                count: self.parameters.elements() as u64,
                on_rank: self.parameters.own_elements() as u64,
                element_bytes: self.parameters.element_bytes() as u64,
            },
            moments: 2,
            state_shards: self.state_shards as u64,
            rank: rank.map(|rank| rank as u64),
            element_bytes: self.dtype().size_in_bytes() as u64,
            stream_bytes: ops::stream_dtype(self.dtype(), self.device()).size_in_bytes() as u64,
            dequantised_bytes: linears()
                .filter_map(|linear| linear.weight.kind())
                .map(|kind| {
                    dequantised_bytes(kind, self.dtype().size_in_bytes() as u64, self.device().into())
                })
                .max()
                .unwrap_or(0),
            gathered_block: linears().map(|linear| self.gathered_bytes(&linear.weight) as u64).sum(),
            device: self.device().into(),
            kernels: KernelGroup::in_use(),
            reference_pass: false,
        }
    }

    /// Returns the bytes on this rank of the frozen embedding, head and linear layers.
    pub fn frozen_bytes(&self) -> usize {
        let head = if self.architecture.tied { 0 } else { self.head.weight.frozen_bytes() };
        let linears = self.blocks.iter().flat_map(DecoderBlock::linears);
        self.embedding.frozen_bytes()
            + head
            + linears.map(|linear| linear.weight.frozen_bytes()).sum::<usize>()
    }

    /// Adds d loss / d parameter to `gradients`, given d loss / d log π of every completion.
    pub fn backward(&self, saved: Saved, grad: &[f64], gradients: &mut Gradients<'_>) -> Result<()> {
        let token_grad: Vec<f64> = saved.batch.scored_sequences().map(|sequence| grad[sequence]).collect();
        self.backward_tokens(saved, &token_grad, gradients)
    }

    /// Adds d loss / d parameter to `gradients`, given d loss / d log π of every scored token in
    /// the order of [`PackedBatch::scored_sequences`]. Tokens without gradient come last and may be
    /// omitted.
    pub fn backward_tokens(&self, saved: Saved, grad: &[f64], gradients: &mut Gradients<'_>) -> Result<()> {
        let Saved { batch, blocks, head, .. } = saved;
        if batch.scored.is_empty() {
            return Ok(());
        }
        let Some(grad) = grad.get(..batch.scored.len()) else {
            candle_core::bail!("{} gradients for {} scored tokens", grad.len(), batch.scored.len());
        };
        let d_rows = self.head.backward(head, grad, gradients)?;
        let indices = self.indices(&batch)?;
        let zero = Tensor::zeros((batch.rows(), d_rows.dim(1)?), d_rows.dtype(), d_rows.device())?;
        let mut dx = zero.index_add(&indices.rows, &d_rows, 0)?;

        let context = self.context(&batch, Adapter::On)?;
        for (block, activations) in gathered(self.blocks.iter().rev()).zip(blocks.into_iter().rev()) {
            let block = block?;
            let saved = match activations {
                BlockActivations::All(saved) => *saved,
                BlockActivations::Input(x) => block.forward(&x, &context)?.1,
            };
            dx = block.backward(saved, &dx, &context, gradients)?;
        }
        self.embedding.add_gradient(gradients, || {
            let dx = self.scale_embedding(dx)?;
            let zero = Tensor::zeros(self.embedding.value().shape(), dx.dtype(), dx.device())?;
            zero.index_add(&indices.tokens, &dx, 0)
        })
    }

    /// Computes the logits `[tokens, vocabulary]` after each of `tokens`.
    pub fn logits(&self, tokens: &[u32], adapter: Adapter) -> Result<Tensor> {
        self.head.logits(&self.hidden(&PackedBatch::context(tokens), adapter)?)
    }

    /// Computes the normed output of the last block at the last token of each sequence, `[sequences,
    /// hidden]`.
    pub(crate) fn hidden_at_ends(&self, sequences: &[&[u32]]) -> Result<Tensor> {
        let batch = PackedBatch::contexts(sequences);
        let x = self.hidden(&batch, Adapter::Off)?;
        let ends: Vec<u32> = batch.trees.iter().map(|tree| tree.prompt.end as u32 - 1).collect();
        let x = x.index_select(&Tensor::new(ends, self.device())?, 0)?;
        Ok(self.head.norm.forward(&x, x.dtype())?.0)
    }

    /// Computes the output rows of the last block.
    fn hidden(&self, batch: &PackedBatch, adapter: Adapter) -> Result<Tensor> {
        self.check(batch)?;
        let context = self.context(batch, adapter)?;
        let x = self.embed(&self.indices(batch)?.tokens)?;
        gathered(self.blocks.iter()).try_fold(x, |x, block| Ok(block?.forward(&x, &context)?.0))
    }

    /// Checks token ids and positions, which index into tables.
    pub(crate) fn check(&self, batch: &PackedBatch) -> Result<()> {
        let vocabulary = self.architecture.vocabulary;
        let mut tokens = batch.tokens.iter().chain(batch.scored.iter().map(|scored| &scored.target));
        if let Some(token) = tokens.find(|token| **token as usize >= vocabulary) {
            candle_core::bail!(
                "token {token} is not in the model's vocabulary of {vocabulary}: is this its tokenizer?"
            );
        }
        let limit = self.architecture.max_positions;
        if batch.positions.iter().any(|position| *position as usize >= limit) {
            candle_core::bail!("a sequence is longer than the model's {limit} positions; lower max_length");
        }
        if batch.tokens.is_empty() {
            candle_core::bail!("the batch is empty");
        }
        Ok(())
    }
}

/// Returns the first rows, copied unless they are all, so that the others can be freed.
fn first_rows(x: &Tensor, rows: usize) -> Result<Tensor> {
    if x.dim(0)? == rows { Ok(x.clone()) } else { x.narrow(0, 0, rows)?.force_contiguous() }
}
