//! Trainable copies of a decoder, adapters, and merging.

use candle_core::{DType, Device, Tensor};
use prospect_core::draw::Draw;

use super::Decoder;
use crate::{
    LoraConfig, ModelError,
    layers::{BlockModules, Head, Linear, LoraAdapter, WeightMut},
    parameters::{Parameters, WeightTensor},
    weights::{LinearWeight, normal},
};

impl Decoder {
    /// Returns the linear layers of the blocks, with their names in checkpoints.
    fn linears_mut(&mut self) -> Vec<(String, &mut Linear)> {
        let names = self.architecture.names();
        let whole = |layer, (name, linear)| (names.in_block(layer, name), linear);
        let blocks = self.blocks.iter_mut().enumerate();
        blocks
            .flat_map(|(layer, block)| {
                block.modules_mut(&names).linears.into_iter().map(move |module| whole(layer, module))
            })
            .collect()
    }

    /// Returns all weights with their names in checkpoints, without a tied head and without
    /// quantised matrices.
    pub(crate) fn weights_mut(&mut self) -> Vec<(String, WeightMut<'_>)> {
        let names = self.architecture.names();
        let embedding = WeightMut::Whole(&mut self.embedding);
        let mut weights = vec![(format!("{}.weight", names.embedding), embedding)];
        for (layer, block) in self.blocks.iter_mut().enumerate() {
            let BlockModules { linears, norms } = block.modules_mut(&names);
            let linears = linears.into_iter().flat_map(|(name, linear)| {
                linear.weights_mut().map(move |(kind, weight)| (name, kind, weight))
            });
            let norms = norms
                .into_iter()
                .flat_map(|(name, norm)| norm.weights_mut().map(move |(kind, weight)| (name, kind, weight)));
            weights.extend(
                linears
                    .chain(norms)
                    .map(|(name, kind, weight)| (format!("{}.{kind}", names.in_block(layer, name)), weight)),
            );
        }
        let Head { norm, weight: head } = &mut self.head;
        weights.extend(norm.weights_mut().map(|(kind, weight)| (format!("{}.{kind}", names.norm), weight)));
        if !self.architecture.tied {
            weights.push((format!("{}.weight", names.head), WeightMut::Whole(head)));
        }
        weights
    }

    /// Updates a tied head after a change of the embedding.
    fn update_tied_head(&mut self) {
        if self.architecture.tied {
            self.head.weight = self.embedding.clone();
        }
    }

    /// Returns a copy whose weights are all trainable, and whole on every rank.
    pub fn with_all_trained(&self) -> Result<Self, ModelError> {
        self.merged()?.dequantised()?.trained()
    }

    /// Returns a copy whose weights are all trainable, with sharded matrices where this model has
    /// them (ZeRO stage 3). All ranks must call it.
    pub fn with_all_trained_in_shards(&self) -> Result<Self, ModelError> {
        self.merged()?.trained()
    }

    /// Makes all weights trainable.
    fn trained(mut self) -> Result<Self, ModelError> {
        let device = self.device().clone();
        let mut parameters = Parameters::default();
        for (name, weight) in self.weights_mut() {
            match weight {
                WeightMut::Whole(weight) => {
                    let value = weight.value().to_device(&device)?;
                    *weight = WeightTensor::Trained(parameters.add(name, &value)?);
                }
                WeightMut::Sharded(matrix) => *matrix = matrix.trained(name, &mut parameters)?,
            }
        }
        self.update_tied_head();
        self.parameters = parameters;
        Ok(self)
    }

    /// Returns a copy with frozen weights and a new adapter on every linear layer of the blocks. A
    /// is drawn from a normal distribution of variance 1/(3·in), and B is zero, so that the policy
    /// starts as the base model.
    pub fn with_lora(&self, lora: LoraConfig, seed: u64) -> Result<Self, ModelError> {
        let mut decoder = self.merged()?;
        let mut parameters = Parameters::default();
        let device = &self.device().clone();
        let dtype = if self.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        for (module, linear) in decoder.linears_mut() {
            let (output, input) = linear.weight.dims()?;
            // Same variance as PEFT's default, Kaiming-uniform with a = √5.
            let deviation = (3.0 * input as f64).sqrt().recip();
            let a = normal(&Draw::new(seed, &module), lora.r * input, deviation);
            let a = Tensor::from_vec(a, (lora.r, input), &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?;
            let b = Tensor::zeros((output, lora.r), dtype, device)?;
            linear.lora = Some(LoraAdapter {
                a: parameters.add(format!("{module}.lora_A.weight"), &a)?,
                b: parameters.add(format!("{module}.lora_B.weight"), &b)?,
                scale: lora.alpha / lora.r as f64,
            });
        }
        decoder.parameters = parameters;
        Ok(decoder)
    }

    /// Makes quantised and sharded matrices dense.
    pub(crate) fn dequantised(mut self) -> Result<Self, ModelError> {
        for (_, linear) in self.linears_mut() {
            if let LinearWeight::Quantised(_) | LinearWeight::Sharded(_) = linear.weight {
                linear.weight = LinearWeight::Plain(WeightTensor::Frozen(linear.weight.dense_for_saving()?));
            }
        }
        Ok(self)
    }

    /// Returns the same policy with adapters merged into the weights and all weights frozen. Frozen
    /// weights without an adapter are shared, not copied. Shards of trained weights are gathered.
    pub fn merged(&self) -> Result<Self, ModelError> {
        let mut decoder = self.clone();
        for (_, linear) in decoder.linears_mut() {
            if linear.lora.is_some() || linear.weight.is_trained_in_shards() {
                linear.weight = LinearWeight::Plain(WeightTensor::Frozen(linear.merged()?));
                linear.lora = None;
            }
        }
        for (_, weight) in decoder.weights_mut() {
            if let WeightMut::Whole(weight) = weight
                && let WeightTensor::Trained(parameter) = weight
            {
                *weight = WeightTensor::Frozen(parameter.value().copy()?);
            }
        }
        decoder.update_tied_head();
        decoder.parameters = Parameters::default();
        Ok(decoder)
    }
}
