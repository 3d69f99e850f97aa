//! Final norm and vocabulary head.
//!
//! Only rows that predict completion tokens reach the head, in chunks, so the whole `[tokens,
//! vocabulary]` logits never exist.

use std::ops::Range;

use candle_core::{DType, Result, Tensor};

use super::{Norm, norm::SavedNorm};
use crate::{
    ops,
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
    targets: Tensor,
    /// With a frozen head: d log π(token) / d normed row, which the backward pass scales by the
    /// weight of the token's sequence. This needs two products with the head; recomputing the
    /// logits would need three.
    unit: Option<Tensor>,
}

impl Head {
    /// Largest size of a chunk of logits in bytes.
    pub(crate) const CHUNK_BYTES: usize = 32 << 20;

    /// Returns log π of each of `targets`, `[rows]`, from the rows `x` that predict them. Saves the
    /// first `keep` rows for the backward pass.
    pub(crate) fn forward(&self, x: &Tensor, targets: &Tensor, keep: usize) -> Result<(Vec<f64>, SavedHead)> {
        let (normed, norm) = self.norm.forward(x, self.operands())?;
        let (mut log_probs, mut unit) = (Vec::new(), Vec::new());
        let frozen = matches!(self.weight, WeightTensor::Frozen(_));
        for chunk in self.chunks(x.dim(0)?, keep)? {
            let gradient = (frozen && chunk.start < keep).then(|| self.operands());
            let [normed, targets] = rows_of([&normed, targets], &chunk)?;
            let logits = ops::wide_linear(&normed, self.weight.value())?;
            let (part, d_logits) = ops::log_prob_of_targets(&logits, &targets, gradient)?;
            log_probs.push(part);
            if let Some(d_logits) = d_logits {
                let d_logits = d_logits.to_dtype(normed.dtype())?;
                unit.push(ops::products(None, &[(&d_logits, self.weight.value())])?);
            }
        }
        let unit = if unit.is_empty() { None } else { Some(Tensor::cat(&unit, 0)?) };
        // One read for all chunks: each waits for the device.
        let log_probs =
            if log_probs.is_empty() { Vec::new() } else { Tensor::cat(&log_probs, 0)?.to_vec1()? };
        let [x, targets] = rows_of([x, targets], &(0..keep))?;
        Ok((log_probs, SavedHead { x, norm: norm.narrow(keep)?, targets, unit }))
    }

    /// Returns d loss / d `x` of the saved rows, from d loss / d log π of each saved token.
    pub(crate) fn backward(
        &self,
        saved: SavedHead,
        grad: &[f64],
        gradients: &mut Gradients<'_>,
    ) -> Result<Tensor> {
        let SavedHead { x, norm, targets, unit } = saved;
        let column = Tensor::new(grad, x.device())?.unsqueeze(1)?;
        let d_normed = if let Some(unit) = unit {
            unit.broadcast_mul(&column.to_dtype(unit.dtype())?)?
        } else {
            let (normed, _) = self.norm.forward(&x, self.operands())?;
            let mut parts = Vec::new();
            for chunk in self.chunks(grad.len(), grad.len())? {
                let [normed, targets, weights] = rows_of([&normed, &targets, &column], &chunk)?;
                let logits = ops::wide_linear(&normed, self.weight.value())?;
                let (_, d_logits) = ops::log_prob_of_targets(&logits, &targets, Some(logits.dtype()))?;
                let Some(d_logits) = d_logits else { continue };
                let d_logits = d_logits.broadcast_mul(&weights.to_dtype(d_logits.dtype())?)?;
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

    /// Divides `count` rows into chunks, none of which straddles `boundary`.
    pub(crate) fn chunks(&self, count: usize, boundary: usize) -> Result<Vec<Range<usize>>> {
        let weight = self.weight.value();
        // Logits of half-precision models are f32.
        let size = (Self::CHUNK_BYTES / (weight.dim(0)? * weight.dtype().size_in_bytes().max(4))).max(1);
        let part = |all: Range<usize>| {
            all.clone().step_by(size).map(move |first| first..(first + size).min(all.end))
        };
        Ok(part(0..boundary).chain(part(boundary..count)).collect())
    }
}

/// Returns a range of the rows of tensors.
fn rows_of<const N: usize>(tensors: [&Tensor; N], rows: &Range<usize>) -> Result<[Tensor; N]> {
    let mut parts = tensors.map(Tensor::clone);
    for part in &mut parts {
        *part = part.narrow(0, rows.start, rows.len())?;
    }
    Ok(parts)
}
