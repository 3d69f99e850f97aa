//! RMS norm and layer norm.

use candle_core::{DType, Result, Tensor};

use super::linear::WeightMut;
use crate::{
    ops,
    parameters::{Gradients, WeightTensor},
};

/// RMS norm, x·w / rms(x), or x·(1 + w) / rms(x) with `offset`. With a bias, layer norm: the RMS
/// norm of x − mean(x), plus the bias.
#[derive(Debug, Clone)]
pub(crate) struct Norm {
    pub(crate) weight: WeightTensor,
    pub(crate) bias: Option<WeightTensor>,
    /// Stores the weight as its difference from 1.
    pub(crate) offset: bool,
    pub(crate) epsilon: f64,
}

/// Tensors saved for the backward pass, besides the input: 1/rms of each row.
pub(crate) struct SavedNorm(Tensor);

impl SavedNorm {
    pub(crate) fn narrow(&self, rows: usize) -> Result<Self> {
        Ok(Self(self.0.narrow(0, 0, rows)?))
    }
}

impl Norm {
    /// Returns the weights with their names in the module.
    pub(crate) fn weights_mut(&mut self) -> impl Iterator<Item = (&'static str, WeightMut<'_>)> {
        let weights = std::iter::once(("weight", &mut self.weight));
        let weights = weights.chain(self.bias.as_mut().map(|bias| ("bias", bias)));
        weights.map(|(name, weight)| (name, WeightMut::Whole(weight)))
    }

    /// Returns the factor of the normalised row: w, or 1 + w in at least single precision.
    fn factor(&self) -> Result<Tensor> {
        let weight = self.weight.value();
        if !self.offset {
            return Ok(weight.clone());
        }
        let dtype = if weight.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        weight.to_dtype(dtype)? + 1.0
    }

    /// Returns the norm of each row of `x` in the type `to`.
    pub(crate) fn forward(&self, x: &Tensor, to: DType) -> Result<(Tensor, SavedNorm)> {
        let factor = self.factor()?;
        let Some(bias) = &self.bias else {
            let (y, inverse_rms) = ops::rms_norm(x, &factor, self.epsilon, to)?;
            return Ok((y, SavedNorm(inverse_rms)));
        };
        let (y, inverse_rms) = ops::rms_norm(&ops::centre(x)?, &factor, self.epsilon, bias.value().dtype())?;
        Ok((ops::operand(&y.broadcast_add(bias.value())?, to)?, SavedNorm(inverse_rms)))
    }

    /// Returns d loss / d x plus `residual`, the gradient of the residual connection.
    pub(crate) fn backward(
        &self,
        x: &Tensor,
        saved: &SavedNorm,
        grad: &Tensor,
        residual: Option<&Tensor>,
        gradients: &mut Gradients<'_>,
    ) -> Result<Tensor> {
        let SavedNorm(inverse_rms) = saved;
        let factor = self.factor()?;
        let backward = |x: &Tensor, residual: Option<&Tensor>, gradients: &mut Gradients<'_>| {
            self.weight.add_gradient(gradients, || ops::rms_norm_weight_grad(x, inverse_rms, grad))?;
            ops::rms_norm_backward(x, &factor, inverse_rms, grad, residual)
        };
        let Some(bias) = &self.bias else { return backward(x, residual, gradients) };
        bias.add_gradient(gradients, || ops::sum_rows(grad))?;
        // Centring is symmetric, so it is its own backward pass.
        let dx = ops::centre(&backward(&ops::centre(x)?, None, gradients)?)?;
        residual.map_or(Ok(dx.clone()), |residual| residual + dx)
    }
}
