//! RMS norm and layer norm.

use candle_core::{Result, Tensor};

use crate::{
    ops,
    parameters::{Gradients, WeightTensor},
};

/// x·w / rms(x); with a bias, the layer norm: that of x − mean(x), and the bias added.
#[derive(Debug, Clone)]
pub(crate) struct Norm {
    pub(crate) weight: WeightTensor,
    pub(crate) bias: Option<WeightTensor>,
    pub(crate) epsilon: f64,
}

/// What the backward pass needs of a norm, beside its input: 1/rms of every row.
pub(crate) struct SavedNorm(Tensor);

impl SavedNorm {
    pub(crate) fn narrow(&self, rows: usize) -> Result<Self> {
        Ok(Self(self.0.narrow(0, 0, rows)?))
    }
}

impl Norm {
    /// The weights with their names within the module.
    pub(crate) fn weights_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut WeightTensor)> {
        let bias = self.bias.as_mut().map(|bias| ("bias", bias));
        std::iter::once(("weight", &mut self.weight)).chain(bias)
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<(Tensor, SavedNorm)> {
        let Some(bias) = &self.bias else {
            let (y, inverse_rms) = ops::rms_norm(x, self.weight.value(), self.epsilon)?;
            return Ok((y, SavedNorm(inverse_rms)));
        };
        let (y, inverse_rms) = ops::rms_norm(&ops::centre(x)?, self.weight.value(), self.epsilon)?;
        Ok((y.broadcast_add(bias.value())?, SavedNorm(inverse_rms)))
    }

    /// d loss / d x, plus `residual`: the gradient that goes past the norm.
    pub(crate) fn backward(
        &self,
        x: &Tensor,
        saved: &SavedNorm,
        grad: &Tensor,
        residual: Option<&Tensor>,
        gradients: &mut Gradients,
    ) -> Result<Tensor> {
        let SavedNorm(inverse_rms) = saved;
        let backward = |x: &Tensor, residual: Option<&Tensor>, gradients: &mut Gradients| {
            self.weight.add_gradient(gradients, || ops::rms_norm_weight_grad(x, inverse_rms, grad))?;
            ops::rms_norm_backward(x, self.weight.value(), inverse_rms, grad, residual)
        };
        let Some(bias) = &self.bias else { return backward(x, residual, gradients) };
        bias.add_gradient(gradients, || grad.sum(0))?;
        // Centring is its own transpose.
        let dx = ops::centre(&backward(&ops::centre(x)?, None, gradients)?)?;
        residual.map_or(Ok(dx.clone()), |residual| residual + dx)
    }
}
