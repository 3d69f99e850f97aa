//! Decoder block: attention and an MLP, each with a norm before it, in some families one after it,
//! and a residual connection.

use candle_core::{DType, Result, Tensor};

use super::{Attention, HeadNorms, Linear, Norm, attention::SavedAttention, mlp::SavedMlp};
use crate::{
    architecture::{LayerAttention, Mlp, Residual, RotaryPairs, TensorNames},
    ops::{self, AttentionBatch},
    parameters::Gradients,
};

/// Decoder block.
#[derive(Debug, Clone)]
pub(crate) struct DecoderBlock {
    pub(crate) attention_norm: Norm,
    pub(crate) attention: Attention,
    pub(crate) mlp_norm: Norm,
    pub(crate) mlp: Mlp<Linear>,
    pub(crate) post_norms: Option<PostNorms>,
    pub(crate) residual: Residual,
}

/// Norms of the results of attention and MLP, before these are added to the residual stream.
#[derive(Debug, Clone)]
pub(crate) struct PostNorms {
    pub(crate) attention: Norm,
    pub(crate) mlp: Norm,
}

/// Inputs that all blocks share in a pass over a batch.
pub(crate) struct BlockContext<'a> {
    pub(crate) pairs: RotaryPairs,
    pub(crate) adapter: bool,
    /// Type of the factors of products: that of the weights.
    pub(crate) operands: DType,
    /// Inputs of blocks with full attention.
    pub(crate) full: LayerContext<'a>,
    /// Inputs of blocks with a sliding window, if there are such blocks.
    pub(crate) sliding: Option<LayerContext<'a>>,
}

impl<'a> BlockContext<'a> {
    /// Returns the inputs of blocks with this attention.
    pub(crate) fn layer(&self, attention: LayerAttention) -> &LayerContext<'a> {
        match (attention, &self.sliding) {
            (LayerAttention::Sliding, Some(sliding)) => sliding,
            _ => &self.full,
        }
    }
}

/// Inputs that blocks with the same attention share.
pub(crate) struct LayerContext<'a> {
    /// cos and sin of the rotary angles of each row, `[rows, rotated dims/2]`.
    pub(crate) rotation: (Tensor, Tensor),
    pub(crate) attention: AttentionBatch<'a>,
}

/// Tensors saved for the backward pass of a block. Norms are cheap, so they are recomputed.
pub(crate) struct SavedBlock {
    x: Tensor,
    attention: SavedAttention,
    /// Input of the MLP's norm.
    middle: Tensor,
    mlp: SavedMlp,
    /// Results of attention and MLP, the inputs of norms after them.
    results: Option<[Tensor; 2]>,
}

impl SavedBlock {
    /// Applies `f` to all tensors.
    pub(crate) fn map(self, f: &impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let Self { x, attention, middle, mlp, results } = self;
        Ok(Self {
            x: f(&x)?,
            attention: attention.map(f)?,
            middle: f(&middle)?,
            mlp: mlp.map(f)?,
            results: match results {
                Some([attended, mixed]) => Some([f(&attended)?, f(&mixed)?]),
                None => None,
            },
        })
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

    /// Returns the linear layers, in the order of [`linears`](Self::linears).
    pub(crate) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        let Attention { projections, output, .. } = &mut self.attention;
        projections.as_mut_slice().iter_mut().chain([output]).chain(self.mlp.as_mut_slice())
    }

    /// Returns the modules, with their names within the block.
    pub(crate) fn modules_mut(&mut self, names: &TensorNames) -> BlockModules<'_> {
        let Attention { projections, norms, output, kind: _ } = &mut self.attention;
        let names_of_linears =
            names.projections.as_slice().iter().chain([&names.output]).chain(names.mlp.as_slice());
        let linears = projections.as_mut_slice().iter_mut().chain([output]).chain(self.mlp.as_mut_slice());
        let linears = names_of_linears.copied().zip(linears).collect();
        let head_norms =
            norms.as_mut().map(|HeadNorms { query, key }| [(names.query_norm, query), (names.key_norm, key)]);
        let norms = [(names.attention_norm, &mut self.attention_norm), (names.mlp_norm, &mut self.mlp_norm)];
        let post_norms = names.post_norms.zip(self.post_norms.as_mut()).map(
            |([after_attention, after_mlp], PostNorms { attention, mlp })| {
                [(after_attention, attention), (after_mlp, mlp)]
            },
        );
        let optional = [head_norms, post_norms].into_iter().flatten().flatten();
        BlockModules { linears, norms: norms.into_iter().chain(optional).collect() }
    }

    pub(crate) fn forward(&self, x: &Tensor, context: &BlockContext<'_>) -> Result<(Tensor, SavedBlock)> {
        let batch = &context.layer(self.attention.kind).attention;
        self.forward_with(x, context, |[q, k, v]| ops::attention(q, k, v, batch))
    }

    /// Like [`forward`](Self::forward), with a custom `attend`: attention from rotated queries and
    /// keys, and values.
    pub(crate) fn forward_with(
        &self,
        x: &Tensor,
        context: &BlockContext<'_>,
        attend: impl FnOnce([&Tensor; 3]) -> Result<Tensor>,
    ) -> Result<(Tensor, SavedBlock)> {
        // Without norms after them, the products add the residual stream themselves.
        let fused = self.post_norms.is_none();
        let (normed, _) = self.attention_norm.forward(x, context.operands)?;
        let (attended, attention) = self.attention.forward(&normed, fused.then_some(x), context, attend)?;
        let sum = match &self.post_norms {
            Some(norms) => (x + norms.attention.forward(&attended, x.dtype())?.0)?,
            None => attended.clone(),
        };
        let middle = match self.residual {
            Residual::Sequential => sum.clone(),
            Residual::Parallel => x.clone(),
        };
        let (normed, _) = self.mlp_norm.forward(&middle, context.operands)?;
        let (mixed, mlp) = self.mlp.forward(&normed, fused.then_some(&sum), context.adapter)?;
        let (y, results) = match &self.post_norms {
            Some(norms) => ((sum + norms.mlp.forward(&mixed, x.dtype())?.0)?, Some([attended, mixed])),
            None => (mixed, None),
        };
        Ok((y, SavedBlock { x: x.clone(), attention, middle, mlp, results }))
    }

    pub(crate) fn backward(
        &self,
        saved: SavedBlock,
        grad: &Tensor,
        context: &BlockContext<'_>,
        gradients: &mut Gradients<'_>,
    ) -> Result<Tensor> {
        let SavedBlock { x, attention, middle, mlp, results } = saved;
        let (norms, [attended, mixed]) = match (&self.post_norms, results) {
            (Some(norms), Some(results)) => (Some(norms), results.map(Some)),
            _ => (None, [None, None]),
        };
        let d_mixed = backward_after(norms.map(|norms| &norms.mlp), mixed, grad, gradients)?;
        let (normed, norm) = self.mlp_norm.forward(&middle, context.operands)?;
        let d_normed = self.mlp.backward(&normed, mlp, &d_mixed, gradients)?;
        drop(d_mixed);
        let d_x = self.mlp_norm.backward(&middle, &norm, &d_normed, Some(grad), gradients)?;

        let d_attended = match self.residual {
            Residual::Sequential => &d_x,
            Residual::Parallel => grad,
        };
        let d_attended =
            backward_after(norms.map(|norms| &norms.attention), attended, d_attended, gradients)?;
        let (normed, norm) = self.attention_norm.forward(&x, context.operands)?;
        let d_normed = self.attention.backward(&normed, attention, &d_attended, context, gradients)?;
        self.attention_norm.backward(&x, &norm, &d_normed, Some(&d_x), gradients)
    }
}

/// Returns d loss / d `x` of the norm after attention or MLP, from d loss / d result; `grad` itself
/// without a norm.
fn backward_after(
    norm: Option<&Norm>,
    x: Option<Tensor>,
    grad: &Tensor,
    gradients: &mut Gradients<'_>,
) -> Result<Tensor> {
    let (Some(norm), Some(x)) = (norm, x) else { return Ok(grad.clone()) };
    let (_, saved) = norm.forward(&x, x.dtype())?;
    norm.backward(&x, &saved, grad, None, gradients)
}
