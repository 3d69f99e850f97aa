//! Where weights come from, under the names and in the layout of Hugging Face checkpoints.

mod count;
mod gguf;
mod random;
mod safetensors;

use candle_core::Tensor;

pub(crate) use count::Count;
pub(crate) use gguf::Gguf;
pub(crate) use random::{Random, normal};
pub(crate) use safetensors::Safetensors;

use crate::ModelError;

/// A source of named tensors.
pub(crate) trait Weights {
    /// The tensor `name` of exactly this shape.
    fn get(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError>;
}

/// Refuses a tensor of another shape, naming it.
fn with_shape(file: &str, name: &str, tensor: Tensor, shape: &[usize]) -> Result<Tensor, ModelError> {
    if tensor.dims() == shape {
        Ok(tensor)
    } else {
        Err(ModelError::Weights(format!(
            "{file}: tensor `{name}` has shape {:?}, the architecture wants {shape:?}; do weights and config.json belong together?",
            tensor.dims()
        )))
    }
}
