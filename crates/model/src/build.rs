//! Puts a decoder together from weights, makes parts of it trainable, and takes adapters into the base.

use candle_core::{DType, Device, Tensor};
use prospect_core::draw::Draw;

use crate::{
    Architecture, Decoder, ModelError,
    architecture::NormKind,
    layers::{Attention, Block, Head, HeadNorms, Linear, Mlp, Norm, Projections},
    matrix::Matrix,
    parameters::{Parameters, Weight},
    recipe::Lora,
    weights::{Weights, normal},
};

/// Takes layers from a source of weights.
struct Builder<'a> {
    architecture: &'a Architecture,
    weights: &'a mut dyn Weights,
}

impl Builder<'_> {
    fn weight(&mut self, module: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        self.weights.get(&format!("{module}.weight"), shape)
    }

    fn bias(&mut self, module: &str, width: usize) -> Result<Tensor, ModelError> {
        self.weights.get(&format!("{module}.bias"), &[width])
    }

    fn linear(&mut self, module: &str, shape: [usize; 2], bias: bool) -> Result<Linear, ModelError> {
        let weight = self.weights.matrix(&format!("{module}.weight"), shape)?;
        let bias = if bias { Some(self.bias(module, shape[0])?) } else { None };
        Ok(Linear::frozen(weight, bias))
    }

    fn norm(&mut self, module: &str, kind: NormKind, width: usize) -> Result<Norm, ModelError> {
        let weight = Weight::Frozen(self.weight(module, &[width])?);
        let bias = match kind {
            NormKind::Rms => None,
            NormKind::Layer => Some(Weight::Frozen(self.bias(module, width)?)),
        };
        Ok(Norm { weight, bias, epsilon: self.architecture.epsilon })
    }

    fn block(&mut self, layer: usize) -> Result<Block, ModelError> {
        let a = self.architecture;
        let names = a.names();
        let of_block = |module: &str| names.of_block(layer, module);
        let (query, key) = (a.query_heads * a.head_dim, a.key_heads * a.head_dim);
        let mut projection = |name: &str, output: usize| {
            self.linear(&of_block(name), [output, a.hidden], a.biases.projections)
        };
        let projections = match names.projections {
            Projections::Separate([q, k, v]) => {
                Projections::Separate([projection(q, query)?, projection(k, key)?, projection(v, key)?])
            }
            Projections::Fused(name) => Projections::Fused(projection(name, query + 2 * key)?),
        };
        let output = self.linear(&of_block(names.output), [a.hidden, query], a.biases.output)?;
        let mut norm = |name: &str| self.norm(&of_block(name), NormKind::Rms, a.head_dim);
        let norms = if a.head_norms {
            Some(HeadNorms { query: norm(names.query_norm)?, key: norm(names.key_norm)? })
        } else {
            None
        };
        let (wide, narrow) = ([a.intermediate, a.hidden], [a.hidden, a.intermediate]);
        let mut linear = |name: &str, shape| self.linear(&of_block(name), shape, a.biases.mlp);
        let mlp = match names.mlp {
            Mlp::Gated([gate, up, down]) => {
                Mlp::Gated([linear(gate, wide)?, linear(up, wide)?, linear(down, narrow)?])
            }
            Mlp::Plain([up, down], gelu) => Mlp::Plain([linear(up, wide)?, linear(down, narrow)?], gelu),
        };
        Ok(Block {
            attention_norm: self.norm(&of_block(names.attention_norm), a.norm, a.hidden)?,
            attention: Attention { projections, norms, output },
            mlp_norm: self.norm(&of_block(names.mlp_norm), a.norm, a.hidden)?,
            mlp,
            residual: a.residual,
        })
    }
}

impl Decoder {
    /// A decoder of frozen weights.
    pub(crate) fn frozen(architecture: Architecture, weights: &mut dyn Weights) -> Result<Self, ModelError> {
        let a = &architecture;
        let names = a.names();
        let mut builder = Builder { architecture: a, weights };
        let embedding = builder.weight(names.embedding, &[a.vocabulary, a.hidden])?;
        let blocks = (0..a.layers).map(|layer| builder.block(layer)).collect::<Result<_, _>>()?;
        let head =
            if a.tied { embedding.clone() } else { builder.weight(names.head, &[a.vocabulary, a.hidden])? };
        let norm = builder.norm(names.norm, a.norm, a.hidden)?;
        Ok(Self {
            embedding: Weight::Frozen(embedding),
            blocks,
            head: Head { norm, weight: Weight::Frozen(head) },
            parameters: Parameters::default(),
            rotation: a.rope.rotation(a.max_positions),
            architecture,
        })
    }

    /// The linear layers of the blocks, with their names in checkpoints.
    fn linears_mut(&mut self) -> Vec<(String, &mut Linear)> {
        let names = self.architecture.names();
        let whole = |layer, (name, linear)| (names.of_block(layer, name), linear);
        let blocks = self.blocks.iter_mut().enumerate();
        blocks
            .flat_map(|(layer, block)| {
                block.modules_mut(&names).0.into_iter().map(move |module| whole(layer, module))
            })
            .collect()
    }

    /// All weights with their names in checkpoints, but for a head that shares the embedding's and for matrices that are not plain.
    pub(crate) fn weights_mut(&mut self) -> Vec<(String, &mut Weight)> {
        let names = self.architecture.names();
        let mut weights = vec![(format!("{}.weight", names.embedding), &mut self.embedding)];
        for (layer, block) in self.blocks.iter_mut().enumerate() {
            let (linears, norms) = block.modules_mut(&names);
            let linears = linears.into_iter().flat_map(|(name, linear)| {
                linear.weights_mut().map(move |(kind, weight)| (name, kind, weight))
            });
            let norms = norms
                .into_iter()
                .flat_map(|(name, norm)| norm.weights_mut().map(move |(kind, weight)| (name, kind, weight)));
            weights.extend(
                linears
                    .chain(norms)
                    .map(|(name, kind, weight)| (format!("{}.{kind}", names.of_block(layer, name)), weight)),
            );
        }
        let Head { norm, weight: head } = &mut self.head;
        weights.extend(norm.weights_mut().map(|(kind, weight)| (format!("{}.{kind}", names.norm), weight)));
        if !self.architecture.tied {
            weights.push((format!("{}.weight", names.head), head));
        }
        weights
    }

    /// After a change of the embedding: a head that shares its weight follows.
    fn tie(&mut self) {
        if self.architecture.tied {
            self.head.weight = self.embedding.clone();
        }
    }

    /// The same weights, all of them trainable.
    pub fn with_all_trained(&self) -> Result<Self, ModelError> {
        let mut decoder = self.merged()?.dequantised()?;
        let mut parameters = Parameters::default();
        for (name, weight) in decoder.weights_mut() {
            *weight = Weight::Trained(parameters.add(name, weight.value())?);
        }
        decoder.tie();
        decoder.parameters = parameters;
        Ok(decoder)
    }

    /// The same weights, frozen, with a fresh adapter on every linear layer of the blocks. A is drawn from a normal
    /// distribution of variance 1/(3·in), B is zero: the policy starts as the base model.
    pub fn with_lora(&self, lora: Lora, seed: u64) -> Result<Self, ModelError> {
        let mut decoder = self.merged()?;
        let mut parameters = Parameters::default();
        let device = &self.device().clone();
        let dtype = if self.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        for (module, linear) in decoder.linears_mut() {
            let (output, input) = linear.weight.dims()?;
            // The variance of PEFT's default, Kaiming-uniform with a = √5.
            let deviation = (3.0 * input as f64).sqrt().recip();
            let a = normal(&Draw::new(seed, &module), lora.r * input, deviation);
            let a = Tensor::from_vec(a, (lora.r, input), &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?;
            let b = Tensor::zeros((output, lora.r), dtype, device)?;
            linear.lora = Some(crate::layers::Lora {
                a: parameters.add(format!("{module}.lora_A.weight"), &a)?,
                b: parameters.add(format!("{module}.lora_B.weight"), &b)?,
                scale: lora.alpha / lora.r as f64,
            });
        }
        decoder.parameters = parameters;
        Ok(decoder)
    }

    /// The same weights with none of them quantised or in parts any more.
    pub(crate) fn dequantised(mut self) -> Result<Self, ModelError> {
        for (_, linear) in self.linears_mut() {
            if let Matrix::Quantised(_) | Matrix::Sharded(_) = linear.weight {
                linear.weight = Matrix::Plain(Weight::Frozen(linear.weight.to_save()?));
            }
        }
        Ok(self)
    }

    /// The same policy, frozen, with adapters taken into the weights. Weights without an adapter that were frozen
    /// before are shared, not copied.
    pub fn merged(&self) -> Result<Self, ModelError> {
        let mut decoder = self.clone();
        for (_, linear) in decoder.linears_mut() {
            if linear.lora.is_some() {
                linear.weight = Matrix::Plain(Weight::Frozen(linear.merged()?));
                linear.lora = None;
            }
        }
        for (_, weight) in decoder.weights_mut() {
            if let Weight::Trained(parameter) = weight {
                *weight = Weight::Frozen(parameter.value().copy()?);
            }
        }
        decoder.tie();
        decoder.parameters = Parameters::default();
        Ok(decoder)
    }
}
