//! Bytes of the passes of a block, by phase.
//!
//! A phase is a point of a pass at which many tensors exist: at a norm, at the rotation of queries,
//! at attention or at the activation of the MLP. Operations composed of candle's have temporary
//! tensors there; fused ones, on the CPU or as our kernels, have none.

use super::{BatchSize, Footprint};
use crate::{
    DeviceKind, MlpKind, NormPlacement, Residual, architecture::GateKind, device::KernelGroup,
    ops::GROUP_BYTES,
};

/// Upper bound of the scores of composed attention, relative to those of the rows that a row attends
/// to: hidden rows, and half as many again for padding.
const PADDING: u64 = 3;

/// Bytes of one row of each kind of matrix.
pub(super) struct RowBytes {
    pub(super) hidden: u64,
    /// A hidden row as a factor of products.
    pub(super) normed: u64,
    query: u64,
    key: u64,
    /// One of the MLP's wide matrices.
    wide: u64,
    /// Number of wide matrices that a block saves.
    saved_wide: u64,
    /// x·Aᵀ of all linear layers.
    down: u64,
}

/// Bytes at a phase: for each row, and of matrices whose size is not that of the rows.
#[derive(Clone, Copy)]
struct Phase {
    per_row: u64,
    matrices: u64,
}

impl Phase {
    fn rows(per_row: u64) -> Self {
        Self { per_row, matrices: 0 }
    }
}

/// Returns the bytes of the largest phase of a pass over `rows` rows.
fn largest(phases: &[Phase], rows: u64) -> u64 {
    phases.iter().map(|Phase { per_row, matrices }| rows * per_row + matrices).max().unwrap_or(0)
}

impl Footprint<'_> {
    pub(super) fn row_bytes(&self) -> RowBytes {
        let (a, e) = (self.architecture, self.element_bytes);
        RowBytes {
            hidden: a.hidden as u64 * self.stream_bytes,
            normed: a.hidden as u64 * e,
            query: (a.query_heads * a.head_dim) as u64 * e,
            key: (a.key_heads * a.head_dim) as u64 * e,
            wide: a.intermediate as u64 * e,
            saved_wide: if matches!(a.mlp, MlpKind::Gated(_)) { 2 } else { 1 },
            down: self.linears.len() as u64 * self.rank.unwrap_or(0) * e,
        }
    }

    /// Returns true if the operations of a group are fused.
    pub(super) fn is_fused(&self, group: KernelGroup) -> bool {
        // No kernel computes GeGLU.
        let no_kernel = group == KernelGroup::Activation
            && matches!(self.architecture.mlp, MlpKind::Gated(GateKind::Gelu(_)));
        self.device == DeviceKind::Cpu || self.kernels.contains(&group) && !no_kernel
    }

    /// Converts bytes of factors of products to those of the same elements in the type of other
    /// activations.
    fn in_stream(&self, bytes: u64) -> u64 {
        bytes / self.element_bytes * self.stream_bytes
    }

    /// Converts bytes of activations to those of the same elements in f32, in which composed
    /// operations compute.
    pub(super) fn in_f32(&self, bytes: u64) -> u64 {
        bytes / self.element_bytes * self.element_bytes.max(4)
    }

    /// Returns the bytes that a block saves for each row. Its input is the previous block's output.
    pub(super) fn saved(&self, row: &RowBytes) -> u64 {
        let a = self.architecture;
        let middle = if a.residual == Residual::Sequential { row.hidden } else { 0 };
        let unnormed = if a.head_norms { row.query + row.key } else { 0 };
        let results = 2 * self.after_norm(row);
        row.hidden
            + middle
            + results
            + unnormed
            + 2 * (row.query + row.key)
            + row.saved_wide * row.wide
            + row.down
    }

    /// Returns the bytes of the input of a norm after attention or MLP, if there is one.
    fn after_norm(&self, row: &RowBytes) -> u64 {
        match self.architecture.norm_placement {
            NormPlacement::Before => 0,
            NormPlacement::BeforeAndAfter => row.normed,
        }
    }

    /// Returns the bytes of the temporary tensors of the activation: forward, and backward.
    fn activation_temporaries(&self, row: &RowBytes) -> (u64, u64) {
        let half = self.element_bytes < 4;
        let wide = self.in_f32(row.wide);
        match self.architecture.mlp {
            // Both inputs in f32, silu and the result; then gate, up, grad and three of the slope.
            MlpKind::Gated(GateKind::Silu) => {
                if half {
                    (4 * wide, 6 * wide)
                } else {
                    (2 * wide, 5 * wide)
                }
            }
            _ if half => (5 * wide, 10 * wide),
            _ => (2 * wide, 5 * wide),
        }
    }

    /// Returns the bytes of a block's forward pass: saved activations and workspace, without the
    /// block's input.
    pub(super) fn forward(&self, row: &RowBytes, batch: &BatchSize) -> u64 {
        let saved = self.saved(row);
        // At the last product of the MLP: both normed inputs, the activation's result, the output,
        // and what is saved.
        let output = saved + 2 * row.normed + row.wide;
        // At the attention products: queries and keys before and after rotation.
        let projected = row.normed + 2 * row.query + 3 * row.key + row.down;
        let attention = projected + row.hidden + 3 * row.query;
        let mut phases = vec![Phase::rows(output), Phase::rows(attention)];
        if !self.is_fused(KernelGroup::Activation) {
            let (temporaries, _) = self.activation_temporaries(row);
            phases.push(Phase::rows(saved - row.hidden + 2 * row.normed + temporaries));
        }
        if !self.is_fused(KernelGroup::Norm) {
            let before_mlp = saved - row.hidden - row.saved_wide * row.wide;
            phases.push(Phase::rows(before_mlp + 2 * row.normed + 3 * self.in_f32(row.normed)));
        }
        if !self.is_fused(KernelGroup::Rotary) {
            phases.push(Phase::rows(projected + row.query + 3 * self.in_f32(row.query)));
        }
        if !self.is_fused(KernelGroup::Attention) {
            let matrices = self.attention_matrices(batch, batch.attended, 2, 3);
            // Results by padded row.
            phases.push(Phase { per_row: projected + 2 * row.query, matrices });
            phases.push(Phase::rows(projected + 4 * row.query));
        }
        largest(&phases, batch.rows)
    }

    /// Returns the workspace of a block's backward pass, without saved activations and the incoming
    /// gradient.
    pub(super) fn backward(&self, row: &RowBytes, batch: &BatchSize) -> u64 {
        // The gradient before a norm after attention or MLP.
        let inner = self.after_norm(row);
        let freed = row.saved_wide * row.wide;
        // Of the wide matrices, the gradient of the activation is a result.
        let mlp = row.hidden + inner + (row.saved_wide + 1) * row.wide + self.in_stream(row.wide);
        // Normed inputs, their gradient, and the gradient of the residual stream.
        let streams = 3 * row.hidden + row.normed + inner;
        let attention =
            (streams + 2 * row.query + self.in_stream(row.query) + 4 * row.key).saturating_sub(freed);
        let mut phases = vec![Phase::rows(mlp), Phase::rows(attention)];
        if self.device == DeviceKind::Gpu && self.is_fused(KernelGroup::Attention) {
            // The result, which is computed again, and two f32 of each head.
            let heads = 8 * self.architecture.query_heads as u64;
            phases.push(Phase::rows((streams + 3 * row.query + 2 * row.key + heads).saturating_sub(freed)));
        }
        if !self.is_fused(KernelGroup::Activation) {
            let (_, temporaries) = self.activation_temporaries(row);
            phases.push(Phase::rows(row.normed + inner + 2 * row.wide + temporaries));
        }
        if !self.is_fused(KernelGroup::Norm) {
            let temporaries = 4 * self.in_f32(row.normed);
            phases.push(Phase::rows((streams + 2 * row.hidden + temporaries).saturating_sub(freed)));
        }
        if !self.is_fused(KernelGroup::Rotary) {
            let rotated = 2 * row.query + 2 * row.key + 3 * self.in_f32(row.query);
            phases.push(Phase::rows((streams + rotated).saturating_sub(freed)));
        }
        if !self.is_fused(KernelGroup::Attention) {
            let matrices = self.attention_matrices(batch, batch.gradient_attended, 4, 4);
            // Gradients by padded row. A row of a prompt is a key of its branches, too.
            let parts = 2 * row.query + 4 * row.key;
            let per_row = (streams + row.query + parts).saturating_sub(freed);
            phases.push(Phase { per_row, matrices });
        }
        largest(&phases, batch.gradient_rows)
    }

    /// Returns the bytes of what all blocks of a pass share: rotation angles, and masks of composed
    /// attention.
    pub(super) fn shared(&self, rows: u64, attended: u64) -> u64 {
        let a = self.architecture;
        // cos and sin; blocks with a sliding window may have their own.
        let tables = if a.sliding_rope.is_some() { 2 } else { 1 };
        let rotation = tables * rows * self.in_f32(a.head_dim as u64 * self.element_bytes);
        let masks = if self.is_fused(KernelGroup::Attention) { 0 } else { PADDING * attended * 4 };
        rotation + masks
    }

    /// Returns the bytes of composed attention: `copies` matrices of scores of a group of
    /// sequences, and `gathered` matrices of the rows of the group.
    fn attention_matrices(&self, batch: &BatchSize, attended: u64, copies: u64, gathered: u64) -> u64 {
        let a = self.architecture;
        let heads = a.query_heads as u64;
        // A group has at least one sequence, and at most all rows, with their padding.
        let one = heads * batch.longest * (batch.longest + 1) * 4;
        let all = PADDING * attended * heads * 4;
        let group = all.min(one.max(GROUP_BYTES as u64));
        let sequences = group.div_ceil(one.max(1));
        let rows = sequences * heads * batch.longest * a.head_dim as u64 * self.element_bytes;
        copies * group + gathered * rows
    }
}
