//! No weights: only their number.

use candle_core::{DType, Device, Tensor};

use super::Weights;
use crate::{Architecture, Decoder, ModelError};

/// Counts what a decoder asks for.
#[derive(Default)]
pub(crate) struct Count(usize);

impl Count {
    /// Number of weights of a decoder of this architecture.
    pub(crate) fn of(architecture: &Architecture) -> Result<usize, ModelError> {
        let mut count = Self::default();
        Decoder::frozen(architecture.clone(), &mut count)?;
        Ok(count.0)
    }
}

impl Weights for Count {
    fn get(&mut self, _name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        self.0 += shape.iter().product::<usize>();
        // One number that stands for all: no memory is taken.
        Ok(Tensor::zeros((), DType::F32, &Device::Cpu)?.broadcast_as(shape)?)
    }
}
