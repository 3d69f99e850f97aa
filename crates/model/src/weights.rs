//! Weights: the sources they are loaded from, and the forms in which linear layers keep them.
//!
//! A [`TensorSource`] yields tensors under the names and in the layout of Hugging Face checkpoints.

mod box_muller;
mod gguf;
mod matrix;
mod quantised;
mod random;
mod safetensors;
mod scales;
mod sharded;

use candle_core::Tensor;

pub(crate) use gguf::GgufFile;
pub(crate) use matrix::LinearWeight;
pub(crate) use quantised::{QuantisedMatrix, QuantisingSource};
pub(crate) use random::{DeviceRandomWeights, RandomWeights, normal};
pub(crate) use safetensors::SafetensorsFiles;
pub(crate) use scales::ScaleScheme;
pub(crate) use sharded::{BlockGather, ShardedMatrix, ShardingSource};

use crate::{ModelError, parameters::WeightTensor};

/// Source of named tensors.
pub(crate) trait TensorSource {
    /// Returns the tensor `name`, or an error if its shape is not `shape`.
    fn get(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError>;

    /// Returns the frozen weight `name` of a linear layer, `[out, in]`.
    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<LinearWeight, ModelError> {
        Ok(LinearWeight::Plain(WeightTensor::Frozen(self.get(name, &shape)?)))
    }
}

/// Rejects a tensor of an unexpected shape.
fn check_shape(file: &str, name: &str, found: &[usize], expected: &[usize]) -> Result<(), ModelError> {
    if found == expected {
        return Ok(());
    }
    Err(ModelError::Weights(format!(
        "{file}: tensor `{name}` has shape {found:?}, the architecture needs {expected:?}; do weights and config.json belong together?"
    )))
}
