//! Final norm and vocabulary head.
//!
//! Only rows that predict completion tokens reach the head, in chunks, so the whole `[tokens,
//! vocabulary]` logits never exist.

use candle_core::{DType, Result, Tensor};

use super::{Norm, norm::SavedNorm};
use crate::{
    ops,
    pack::ScoredToken,
    parameters::{Gradients, WeightTensor},
};

/// Final norm and head. `weight` is `[vocabulary, hidden]` and may be tied to the embedding.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) norm: Norm,
    pub(crate) weight: WeightTensor,
}

/// Tensors saved for the backward pass of the head.
pub(crate) struct SavedHead {
    /// Output rows of the last block that predict a scored token.
    x: Tensor,
    norm: SavedNorm,
    /// With a frozen head: d log π(token) / d normed row, which the backward pass scales by the
    /// weight of the token's sequence. This needs two products with the head; recomputing the
    /// logits would need three.
    unit: Option<Tensor>,
}

impl Head {
    /// Largest size of a chunk of logits in bytes.
    pub(crate) const CHUNK_BYTES: usize = 32 << 20;

    /// Returns log π of each scored token, from the rows `x` that predict them.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        scored: &[ScoredToken],
        keep: usize,
    ) -> Result<(Vec<f64>, SavedHead)> {
        let (normed, norm) = self.norm.forward(x, self.operands())?;
        let (mut log_probs, mut unit) = (Vec::with_capacity(scored.len()), Vec::new());
        let frozen = matches!(self.weight, WeightTensor::Frozen(_));
        for (rows, part) in self.chunks(scored, keep)? {
            let gradient = (frozen && rows < keep).then(|| self.operands());
            let normed = normed.narrow(0, rows, part.len())?;
            let logits = ops::wide_linear(&normed, self.weight.value())?;
            let (part, d_logits) = ops::log_prob_of_targets(&logits, part, gradient)?;
            log_probs.extend(part);
            if let Some(d_logits) = d_logits {
                let d_logits = d_logits.to_dtype(normed.dtype())?;
                unit.push(ops::products(None, &[(&d_logits, self.weight.value())])?);
            }
        }
        let unit = if unit.is_empty() { None } else { Some(Tensor::cat(&unit, 0)?) };
        Ok((log_probs, SavedHead { x: x.narrow(0, 0, keep)?, norm: norm.narrow(keep)?, unit }))
    }

    /// Returns d loss / d `x` of the saved rows, from d loss / d log π of each saved token.
    pub(crate) fn backward(
        &self,
        saved: SavedHead,
        scored: &[ScoredToken],
        grad: &[f64],
        gradients: &mut Gradients<'_>,
    ) -> Result<Tensor> {
        let SavedHead { x, norm, unit } = saved;
        let column = Tensor::new(grad, x.device())?.unsqueeze(1)?;
        let d_normed = if let Some(unit) = unit {
            unit.broadcast_mul(&column.to_dtype(unit.dtype())?)?
        } else {
            let (normed, _) = self.norm.forward(&x, self.operands())?;
            let mut parts = Vec::new();
            for (rows, part) in self.chunks(scored, scored.len())? {
                let normed = normed.narrow(0, rows, part.len())?;
                let logits = ops::wide_linear(&normed, self.weight.value())?;
                let (_, d_logits) = ops::log_prob_of_targets(&logits, part, Some(logits.dtype()))?;
                let Some(d_logits) = d_logits else { continue };
                let weights = column.narrow(0, rows, part.len())?.to_dtype(d_logits.dtype())?;
                let d_logits = d_logits.broadcast_mul(&weights)?;
                let d_logits = ops::operand(&d_logits, self.operands())?;
                self.weight.add_gradient(gradients, || d_logits.t()?.matmul(&normed))?;
                parts.push(ops::products(None, &[(&d_logits, self.weight.value())])?);
            }
            Tensor::cat(&parts, 0)?
        };
        self.norm.backward(&x, &norm, &d_normed, None, gradients)
    }

    /// Returns the logits of all rows of `x`, `[rows, vocabulary]`.
    pub(crate) fn logits(&self, x: &Tensor) -> Result<Tensor> {
        let (normed, _) = self.norm.forward(x, self.operands())?;
        Ok(ops::linear(&normed, self.weight.value(), None, None, x.dtype())?.0)
    }

    /// Returns the type of the factors of products: that of the weight.
    fn operands(&self) -> DType {
        self.weight.value().dtype()
    }

    /// Returns chunks of scored tokens with their first row. No chunk straddles `boundary`.
    pub(crate) fn chunks<'a>(
        &self,
        scored: &'a [ScoredToken],
        boundary: usize,
    ) -> Result<Vec<(usize, &'a [ScoredToken])>> {
        let weight = self.weight.value();
        // Logits of half-precision models are f32.
        let size = (Self::CHUNK_BYTES / (weight.dim(0)? * weight.dtype().size_in_bytes().max(4))).max(1);
        let (kept, rest) = scored.split_at(boundary);
        let kept = kept.chunks(size).enumerate().map(|(index, part)| (index * size, part));
        let rest = rest.chunks(size).enumerate().map(|(index, part)| (boundary + index * size, part));
        Ok(kept.chain(rest).collect())
    }
}
