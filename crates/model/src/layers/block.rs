//! Decoder block: attention and an MLP, each with a norm before it and a residual connection.

use candle_core::{Result, Tensor};

use super::{Attention, HeadNorms, Linear, Norm, attention::SavedAttention, mlp::SavedMlp};
use crate::{
    architecture::{AttentionHeads, Mlp, Residual, RotaryPairs, TensorNames},
    ops,
    pack::PromptTree,
    parameters::Gradients,
};

/// Decoder block.
#[derive(Debug, Clone)]
pub(crate) struct DecoderBlock {
    pub(crate) attention_norm: Norm,
    pub(crate) attention: Attention,
    pub(crate) mlp_norm: Norm,
    pub(crate) mlp: Mlp<Linear>,
    pub(crate) residual: Residual,
}

/// Inputs that all blocks share in a pass over a batch.
pub(crate) struct BlockContext<'a> {
    pub(crate) trees: &'a [PromptTree],
    /// cos and sin of the rotary angles of each row, `[rows, rotated dims/2]`.
    pub(crate) rotation: (Tensor, Tensor),
    pub(crate) pairs: RotaryPairs,
    pub(crate) heads: AttentionHeads,
    pub(crate) adapter: bool,
}

/// Tensors saved for the backward pass of a block. Norms are cheap, so they are recomputed.
pub(crate) struct SavedBlock {
    x: Tensor,
    attention: SavedAttention,
    /// Input of the MLP's norm.
    middle: Tensor,
    mlp: SavedMlp,
}

impl SavedBlock {
    /// Applies `f` to all tensors.
    pub(crate) fn map(self, f: &impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let Self { x, attention, middle, mlp } = self;
        Ok(Self { x: f(&x)?, attention: attention.map(f)?, middle: f(&middle)?, mlp: mlp.map(f)? })
    }
}

/// Modules of a block, with their names within the block.
pub(crate) struct BlockModules<'a> {
    pub(crate) linears: Vec<(&'static str, &'a mut Linear)>,
    pub(crate) norms: Vec<(&'static str, &'a mut Norm)>,
}

impl DecoderBlock {
    /// Returns the linear layers.
    pub(crate) fn linears(&self) -> impl Iterator<Item = &Linear> {
        let Attention { projections, output, .. } = &self.attention;
        projections.as_slice().iter().chain([output]).chain(self.mlp.as_slice())
    }

    /// Returns the modules, with their names within the block.
    pub(crate) fn modules_mut(&mut self, names: &TensorNames) -> BlockModules<'_> {
        let Attention { projections, norms, output } = &mut self.attention;
        let names_of_linears =
            names.projections.as_slice().iter().chain([&names.output]).chain(names.mlp.as_slice());
        let linears = projections.as_mut_slice().iter_mut().chain([output]).chain(self.mlp.as_mut_slice());
        let linears = names_of_linears.copied().zip(linears).collect();
        let head_norms =
            norms.as_mut().map(|HeadNorms { query, key }| [(names.query_norm, query), (names.key_norm, key)]);
        let norms = [(names.attention_norm, &mut self.attention_norm), (names.mlp_norm, &mut self.mlp_norm)];
        BlockModules { linears, norms: norms.into_iter().chain(head_norms.into_iter().flatten()).collect() }
    }

    pub(crate) fn forward(&self, x: &Tensor, context: &BlockContext<'_>) -> Result<(Tensor, SavedBlock)> {
        self.forward_with(x, context, |[q, k, v]| ops::attention(q, k, v, context.trees, context.heads))
    }

    /// Like [`forward`](Self::forward), with a custom `attend`: attention from rotated queries and
    /// keys, and values.
    pub(crate) fn forward_with(
        &self,
        x: &Tensor,
        context: &BlockContext<'_>,
        attend: impl FnOnce([&Tensor; 3]) -> Result<Tensor>,
    ) -> Result<(Tensor, SavedBlock)> {
        let (normed, _) = self.attention_norm.forward(x)?;
        let (sum, attention) = self.attention.forward(&normed, Some(x), context, attend)?;
        let middle = match self.residual {
            Residual::Sequential => sum.clone(),
            Residual::Parallel => x.clone(),
        };
        let (normed, _) = self.mlp_norm.forward(&middle)?;
        let (y, mlp) = self.mlp.forward(&normed, Some(&sum), context.adapter)?;
        Ok((y, SavedBlock { x: x.clone(), attention, middle, mlp }))
    }

    pub(crate) fn backward(
        &self,
        saved: SavedBlock,
        grad: &Tensor,
        context: &BlockContext<'_>,
        gradients: &mut Gradients,
    ) -> Result<Tensor> {
        let SavedBlock { x, attention, middle, mlp } = saved;
        let (normed, norm) = self.mlp_norm.forward(&middle)?;
        let d_normed = self.mlp.backward(&normed, mlp, grad, gradients)?;
        let d_x = self.mlp_norm.backward(&middle, &norm, &d_normed, Some(grad), gradients)?;

        let d_attended = match self.residual {
            Residual::Sequential => &d_x,
            Residual::Parallel => grad,
        };
        let (normed, norm) = self.attention_norm.forward(&x)?;
        let d_normed = self.attention.backward(&normed, attention, d_attended, context, gradients)?;
        self.attention_norm.backward(&x, &norm, &d_normed, Some(&d_x), gradients)
    }
}
