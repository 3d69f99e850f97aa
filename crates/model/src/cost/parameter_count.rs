//! Number and shapes of the weights of an architecture, without allocating them.

use candle_core::{DType, Device, Tensor};

use crate::{
    Architecture, Decoder, ModelError,
    parameters::WeightTensor,
    weights::{LinearWeight, TensorSource},
};

/// Weights that a decoder of some architecture has.
#[derive(Debug, Default)]
pub(super) struct ParameterCount {
    /// Number of weights.
    pub(super) elements: usize,
    /// Shapes `[out, in]` of the linear layers, block by block.
    pub(super) matrices: Vec<[usize; 2]>,
}

impl ParameterCount {
    /// Counts by building a decoder from placeholder tensors.
    pub(super) fn new(architecture: &Architecture) -> Result<Self, ModelError> {
        let mut count = Self::default();
        Decoder::frozen(architecture.clone(), &mut count)?;
        Ok(count)
    }
}

impl TensorSource for ParameterCount {
    fn get(&mut self, _name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        self.elements += shape.iter().product::<usize>();
        // A broadcast scalar, so that nothing is allocated.
        Ok(Tensor::zeros((), DType::F32, &Device::Cpu)?.broadcast_as(shape)?)
    }

    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<LinearWeight, ModelError> {
        self.matrices.push(shape);
        Ok(LinearWeight::Plain(WeightTensor::Frozen(self.get(name, &shape)?)))
    }
}

impl Architecture {
    /// Returns the number of weights; a tied head counts once.
    pub fn parameter_count(&self) -> Result<usize, ModelError> {
        Ok(ParameterCount::new(self)?.elements)
    }
}
