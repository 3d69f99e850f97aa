//! Optimizers, and the global norm of gradients.

mod adamw;
mod rmsprop;
mod state;

use std::collections::HashMap;

use candle_core::{DType, Error, Result, Tensor};
use prospect_dist::{Collective, CollectiveError};
use prospect_model::{Gradients, Parameters, sum_of_squares};

use crate::OptimizerConfig;
use adamw::{AdamW, AdamWConfig};
use rmsprop::{RmsProp, RmsPropConfig};

/// Tensors by name, as in a safetensors file.
pub(crate) type StateDict = HashMap<String, Tensor>;

/// Returns a tensor of a state dict; an error names the missing tensor.
pub(crate) fn state_tensor<'a>(state: &'a StateDict, name: &str) -> Result<&'a Tensor> {
    state.get(name).ok_or_else(|| Error::msg(format!("the checkpoint lacks tensor `{name}`")))
}

/// An optimizer over all parameters of a model.
pub(crate) enum Optimizer<'a> {
    AdamW(AdamW<'a>),
    RmsProp(RmsProp<'a>),
}

impl<'a> Optimizer<'a> {
    /// Creates the optimizer with zero moments. With `shards`, each rank keeps its
    /// [shard](Collective::even_shard) of moments and master weights, and steps along
    /// [sharded gradients](Gradients::sharded).
    pub(crate) fn new(
        config: OptimizerConfig,
        weight_decay: f64,
        parameters: &Parameters,
        shards: Option<&'a dyn Collective>,
    ) -> Result<Self> {
        Ok(match config {
            OptimizerConfig::Adamw { adam_betas: betas, adam_epsilon: epsilon } => {
                Self::AdamW(AdamW::new(AdamWConfig { betas, epsilon, weight_decay }, parameters, shards)?)
            }
            OptimizerConfig::Rmsprop { rmsprop_alpha: alpha, rmsprop_epsilon: epsilon } => Self::RmsProp(
                RmsProp::new(RmsPropConfig { alpha, epsilon, weight_decay }, parameters, shards)?,
            ),
        })
    }

    /// Takes one step along `scale` times the gradients. Parameters without a gradient stay.
    pub(crate) fn step(
        &mut self,
        parameters: &Parameters,
        gradients: &Gradients<'_>,
        scale: f64,
        learning_rate: f64,
    ) -> Result<()> {
        match self {
            Self::AdamW(adamw) => adamw.step(parameters, gradients, scale, learning_rate),
            Self::RmsProp(rmsprop) => rmsprop.step(parameters, gradients, scale, learning_rate),
        }
    }

    /// Returns the moments by name, with a prefix for each kind of moment, and the master weights
    /// of half-precision parameters as `master.NAME`: whole tensors, whether the state is sharded
    /// or not. With shards, all ranks must call it, and only rank 0 gets the tensors.
    pub(crate) fn state_dict(&self, parameters: &Parameters) -> Result<Vec<(String, Tensor)>> {
        match self {
            Self::AdamW(adamw) => adamw.state_dict(parameters),
            Self::RmsProp(rmsprop) => rmsprop.state_dict(parameters),
        }
    }

    /// Restores [`state_dict`](Self::state_dict) after `steps` steps. The parameters must have been
    /// restored before.
    pub(crate) fn load_state_dict(
        &mut self,
        parameters: &Parameters,
        state: &StateDict,
        steps: u64,
    ) -> Result<()> {
        match self {
            Self::AdamW(adamw) => adamw.load_state_dict(parameters, state, steps),
            Self::RmsProp(rmsprop) => rmsprop.load_state_dict(parameters, state),
        }
    }
}

/// Largest bucket of gradients whose squares are summed at once on a GPU, in elements.
const NORM_BUCKET: usize = 64 << 20;

/// Returns the sum of the squares of a bucket of tensors, as a scalar in f64.
fn squares_of_bucket(tensors: &[Tensor]) -> Result<Tensor> {
    let flat = tensors.iter().map(|tensor| {
        // Squares are summed in the tensor's own type, or in f32 if that is narrower.
        let dtype = if tensor.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        tensor.to_dtype(dtype)?.flatten_all()
    });
    let flat = flat.collect::<Result<Vec<_>>>()?;
    let all = if let [one] = &*flat { one.clone() } else { Tensor::cat(&flat, 0)? };
    let count = all.elem_count();
    // A GPU sums each row in a block of its own.
    let rows = if all.device().is_cpu() { 1 } else { 1 << count.trailing_zeros().min(10) };
    all.sqr()?.reshape((rows, count / rows))?.sum(1)?.sum_all()?.to_dtype(DType::F64)
}

/// Returns the sum of the squares of all elements of gradients, composed of candle operations.
fn composed_sum_of_squares(gradients: &[&Tensor]) -> Result<f64> {
    let (mut squares, mut bucket, mut elements) = (Vec::new(), Vec::new(), 0);
    for gradient in gradients {
        // Sums of many tensors at once take few launches on a GPU, and a copy.
        let most = if gradient.device().is_cpu() { 0 } else { NORM_BUCKET };
        if !bucket.is_empty() && elements + gradient.elem_count() > most {
            squares.push(squares_of_bucket(&std::mem::take(&mut bucket))?);
            elements = 0;
        }
        elements += gradient.elem_count();
        bucket.push((*gradient).clone());
    }
    if !bucket.is_empty() {
        squares.push(squares_of_bucket(&bucket)?);
    }
    // One read for all buckets: each waits for the device.
    let squares =
        if squares.is_empty() { Vec::new() } else { Tensor::stack(&squares, 0)?.to_vec1::<f64>()? };
    Ok(squares.iter().sum())
}

/// Returns the sum of the squares of all elements of tensors.
fn squares(tensors: &[&Tensor]) -> Result<f64> {
    match sum_of_squares(tensors)? {
        Some(square) => Ok(square),
        None => composed_sum_of_squares(tensors),
    }
}

/// Returns the Euclidean norm of the trained weights: of this rank's shards, if they are sharded.
pub(crate) fn norm_of_weights(parameters: &Parameters) -> Result<f64> {
    Ok(squares(&parameters.iter().map(|(_, parameter)| parameter.value()).collect::<Vec<_>>())?.sqrt())
}

/// Returns the sum of the squares of all gradients: of this rank's shards, if they are sharded.
pub(crate) fn squares_of_gradients(parameters: &Parameters, gradients: &Gradients<'_>) -> Result<f64> {
    let present = parameters.iter().filter_map(|(_, parameter)| gradients.get(parameter));
    squares(&present.collect::<Vec<_>>())
}

/// Returns the Euclidean norm over all gradients, from the
/// [sum of squares](squares_of_gradients) of each rank that has a shard.
pub(crate) fn global_norm(square: f64, shards: Option<&dyn Collective>) -> Result<f64> {
    let Some(group) = shards else { return Ok(square.sqrt()) };
    let mut total = 0.0;
    for (rank, part) in group.all_gather(square.to_le_bytes().to_vec())?.iter().enumerate() {
        let part = <[u8; 8]>::try_from(part.as_slice()).map_err(|_| CollectiveError::OutOfStep { rank })?;
        total += f64::from_le_bytes(part);
    }
    Ok(total.sqrt())
}

#[cfg(test)]
pub(crate) mod tests {
    use prospect_model::{Activations, Architecture, Decoder, Packer};

    use super::*;

    pub(crate) fn policy() -> Decoder {
        let architecture: Architecture = serde_json::from_str(
            r#"{"vocab_size": 16, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
                "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "max_position_embeddings": 32}"#,
        )
        .unwrap();
        Decoder::random(architecture, 0).unwrap().with_all_trained().unwrap()
    }

    pub(crate) fn gradients(policy: &Decoder) -> Gradients<'static> {
        let mut packer = Packer::default();
        let prompt = packer.add_prompt(&[1, 2, 3]);
        packer.add_completion(prompt, &[4, 5, 6], true);
        let (_, saved) = policy.forward(&packer.pack().unwrap(), Activations::Keep).unwrap();
        let mut gradients = Gradients::none(policy.parameters());
        policy.backward(saved, &[-1.0], &mut gradients).unwrap();
        gradients
    }

    #[test]
    fn the_norm_is_over_all_parameters() {
        let policy = policy();
        let gradients = gradients(&policy);
        let square: f64 = policy
            .parameters()
            .iter()
            .filter_map(|(_, parameter)| gradients.get(parameter))
            .flat_map(|gradient| gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap())
            .map(|x| f64::from(x).powi(2))
            .sum();
        let squares = squares_of_gradients(policy.parameters(), &gradients).unwrap();
        let norm = global_norm(squares, None).unwrap();
        assert!((norm / square.sqrt() - 1.0).abs() < 1e-5);
    }
}
