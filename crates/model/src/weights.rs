//! Where weights come from, under the names and in the layout of Hugging Face checkpoints.

mod count;
mod gguf;
mod random;
mod safetensors;
mod sharding;

use candle_core::{Tensor, quantized::GgmlDType};

pub(crate) use count::Count;
pub(crate) use gguf::Gguf;
pub(crate) use random::{Random, normal};
pub(crate) use safetensors::Safetensors;
pub(crate) use sharding::Sharding;

use crate::{
    ModelError,
    matrix::{Matrix, Quantised},
    parameters::Weight,
};

/// A source of named tensors.
pub(crate) trait Weights {
    /// The tensor `name` of exactly this shape.
    fn get(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError>;

    /// The frozen matrix `name` of a linear layer, `[out, in]`.
    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<Matrix, ModelError> {
        Ok(Matrix::Plain(Weight::Frozen(self.get(name, &shape)?)))
    }
}

/// The weights of `source`, the matrices of linear layers in blocks of `kind`.
pub(crate) struct Quantising<'a> {
    pub(crate) source: &'a mut dyn Weights,
    pub(crate) kind: GgmlDType,
}

impl Weights for Quantising<'_> {
    fn get(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        self.source.get(name, shape)
    }

    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<Matrix, ModelError> {
        let quantised = Quantised::new(&self.source.get(name, &shape)?, self.kind);
        let quantised = quantised.map_err(|error| {
            ModelError::Recipe(format!("tensor `{name}` cannot be kept so (`quantization`): {error}"))
        })?;
        Ok(Matrix::Quantised(quantised))
    }
}

/// Refuses a tensor of another shape, naming it.
fn check_shape(file: &str, name: &str, found: &[usize], wanted: &[usize]) -> Result<(), ModelError> {
    if found == wanted {
        return Ok(());
    }
    Err(ModelError::Weights(format!(
        "{file}: tensor `{name}` has shape {found:?}, the architecture wants {wanted:?}; do weights and config.json belong together?"
    )))
}
