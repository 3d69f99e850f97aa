//! RMS norm.

use candle_core::{Result, Tensor};

use crate::{
    ops,
    parameters::{Gradients, Weight},
};

/// x·w / rms(x).
#[derive(Debug, Clone)]
pub(crate) struct Norm {
    pub(crate) weight: Weight,
    pub(crate) epsilon: f64,
}

impl Norm {
    /// The result, and 1/rms of every row.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        ops::rms_norm(x, self.weight.value(), self.epsilon)
    }

    pub(crate) fn backward(
        &self,
        x: &Tensor,
        inverse_rms: &Tensor,
        grad: &Tensor,
        gradients: &mut Gradients,
    ) -> Result<Tensor> {
        self.weight.add_gradient(gradients, || ops::rms_norm_weight_grad(x, inverse_rms, grad))?;
        ops::rms_norm_backward(x, self.weight.value(), inverse_rms, grad)
    }
}
