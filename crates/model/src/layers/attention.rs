//! Self-attention: projections, query and key norms in some families, rotary embeddings, and
//! attention itself.

use candle_core::{Result, Tensor};

use super::{BlockContext, LayerContext, Linear, Norm, linear::SavedLora};
use crate::{
    architecture::{AttentionHeads, LayerAttention, Projections},
    ops::{self, AttentionBatch},
    parameters::Gradients,
};

impl Projections<Linear> {
    /// Returns q, k and v, and what the backward pass needs of the adapter of each projection.
    fn forward(
        &self,
        x: &Tensor,
        heads: AttentionHeads,
        adapter: bool,
    ) -> Result<([Tensor; 3], [Option<SavedLora>; 3])> {
        match self {
            Self::Separate([q, k, v]) => {
                let (q, q_lora) = q.forward(x, None, adapter)?;
                let (k, k_lora) = k.forward(x, None, adapter)?;
                let (v, v_lora) = v.forward(x, None, adapter)?;
                Ok(([q, k, v], [q_lora, k_lora, v_lora]))
            }
            Self::Fused(projection) => {
                let AttentionHeads { query, dim, .. } = heads;
                let (y, lora) = projection.forward(x, None, adapter)?;
                let rows = y.dim(0)?;
                let y = y.reshape((rows, query, 3, dim))?;
                let part = |index: usize| y.narrow(2, index, 1)?.reshape((rows, query * dim));
                Ok(([part(0)?, part(1)?, part(2)?], [lora, None, None]))
            }
        }
    }

    fn backward(
        &self,
        x: &Tensor,
        lora: &[Option<SavedLora>; 3],
        [d_q, d_k, d_v]: [Tensor; 3],
        heads: AttentionHeads,
        gradients: &mut Gradients<'_>,
    ) -> Result<Tensor> {
        match self {
            Self::Separate([q, k, v]) => {
                let d_x = q.backward(x, lora[0].as_ref(), &d_q, None, gradients)?;
                let d_x = k.backward(x, lora[1].as_ref(), &d_k, Some(d_x), gradients)?;
                v.backward(x, lora[2].as_ref(), &d_v, Some(d_x), gradients)
            }
            Self::Fused(projection) => {
                let rows = d_q.dim(0)?;
                let part = |grad: Tensor| grad.reshape((rows, heads.query, heads.dim));
                let grad = Tensor::stack(&[part(d_q)?, part(d_k)?, part(d_v)?], 2)?;
                let grad = grad.reshape((rows, 3 * heads.query * heads.dim))?;
                projection.backward(x, lora[0].as_ref(), &grad, None, gradients)
            }
        }
    }
}

/// Norms of queries and keys over the dimensions of a head, before the rotation.
#[derive(Debug, Clone)]
pub(crate) struct HeadNorms {
    pub(crate) query: Norm,
    pub(crate) key: Norm,
}

/// Self-attention layer.
#[derive(Debug, Clone)]
pub(crate) struct Attention {
    pub(crate) projections: Projections<Linear>,
    pub(crate) norms: Option<HeadNorms>,
    pub(crate) output: Linear,
    pub(crate) kind: LayerAttention,
}

/// Tensors saved for the backward pass, besides the input.
pub(crate) struct SavedAttention {
    /// Queries and keys before their norms, if there are norms.
    unnormed: Option<[Tensor; 2]>,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attended: Tensor,
    /// State of the adapters of the projections and of the output.
    lora: ([Option<SavedLora>; 3], Option<SavedLora>),
}

impl SavedAttention {
    /// Applies `f` to all tensors.
    pub(crate) fn map(self, f: &impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let maybe = |lora: &Option<SavedLora>| lora.as_ref().map(|lora| lora.map(f)).transpose();
        let Self { unnormed, q, k, v, attended, lora: ([q_lora, k_lora, v_lora], output) } = self;
        Ok(Self {
            unnormed: match unnormed {
                Some([q, k]) => Some([f(&q)?, f(&k)?]),
                None => None,
            },
            q: f(&q)?,
            k: f(&k)?,
            v: f(&v)?,
            attended: f(&attended)?,
            lora: ([maybe(&q_lora)?, maybe(&k_lora)?, maybe(&v_lora)?], maybe(&output)?),
        })
    }
}

/// Reshapes to one row per row and head.
fn by_head(x: &Tensor, dim: usize) -> Result<Tensor> {
    x.reshape((x.elem_count() / dim, dim))
}

impl Attention {
    /// Returns self-attention of the rows of `x`, plus `residual`. `attend` computes attention from
    /// rotated queries and keys, and values.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        context: &BlockContext<'_>,
        attend: impl FnOnce([&Tensor; 3]) -> Result<Tensor>,
    ) -> Result<(Tensor, SavedAttention)> {
        let BlockContext { pairs, adapter, .. } = context;
        let LayerContext { rotation: (cos, sin), attention: AttentionBatch { heads, .. } } =
            context.layer(self.kind);
        let ([q, k, v], lora) = self.projections.forward(x, *heads, *adapter)?;
        let (q, k, unnormed) = match &self.norms {
            None => (q, k, None),
            Some(norms) => {
                let apply = |norm: &Norm, x: &Tensor| -> Result<Tensor> {
                    norm.forward(&by_head(x, heads.dim)?, x.dtype())?.0.reshape(x.shape())
                };
                (apply(&norms.query, &q)?, apply(&norms.key, &k)?, Some([q, k]))
            }
        };
        let q = ops::rotary(&q, cos, sin, heads.dim, *pairs, false)?;
        let k = ops::rotary(&k, cos, sin, heads.dim, *pairs, false)?;
        let attended = attend([&q, &k, &v])?;
        let (y, output_lora) = self.output.forward(&attended, residual, *adapter)?;
        Ok((y, SavedAttention { unnormed, q, k, v, attended, lora: (lora, output_lora) }))
    }

    pub(crate) fn backward(
        &self,
        x: &Tensor,
        saved: SavedAttention,
        grad: &Tensor,
        context: &BlockContext<'_>,
        gradients: &mut Gradients<'_>,
    ) -> Result<Tensor> {
        let BlockContext { pairs, .. } = context;
        let LayerContext { rotation: (cos, sin), attention: batch } = context.layer(self.kind);
        let heads = &batch.heads;
        let SavedAttention { unnormed, q, k, v, attended, lora: (lora, output_lora) } = saved;
        let d_attended = self.output.backward(&attended, output_lora.as_ref(), grad, None, gradients)?;
        let (d_q, d_k, d_v) = ops::attention_backward(&q, &k, &v, &d_attended, batch)?;
        drop((q, k, v, attended, d_attended));
        let mut d_q = ops::rotary(&d_q, cos, sin, heads.dim, *pairs, true)?;
        let mut d_k = ops::rotary(&d_k, cos, sin, heads.dim, *pairs, true)?;
        if let (Some(norms), Some([q, k])) = (&self.norms, unnormed) {
            let mut undo = |norm: &Norm, x: &Tensor, grad: &Tensor| -> Result<Tensor> {
                let (x, rows) = (by_head(x, heads.dim)?, by_head(grad, heads.dim)?);
                let (_, saved) = norm.forward(&x, x.dtype())?;
                norm.backward(&x, &saved, &rows, None, gradients)?.reshape(grad.shape())
            };
            (d_q, d_k) = (undo(&norms.query, &q, &d_q)?, undo(&norms.key, &k, &d_k)?);
        }
        self.projections.backward(x, &lora, [d_q, d_k, d_v], *heads, gradients)
    }
}
