//! Construction of decoders from weights.

use candle_core::{Device, Tensor};

use super::Decoder;
use crate::{
    Architecture, Dtype, ModelError, Quantization,
    architecture::{Mlp, NormKind, Projections},
    layers::{Attention, DecoderBlock, Head, HeadNorms, Linear, Norm, PostNorms},
    ops,
    parameters::{Parameters, WeightTensor},
    weights::{DeviceRandomWeights, QuantisingSource, RandomWeights, TensorSource},
};

/// Builds layers from a source of weights.
struct Builder<'a> {
    architecture: &'a Architecture,
    weights: &'a mut dyn TensorSource,
}

impl Builder<'_> {
    fn weight(&mut self, module: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        self.weights.get(&format!("{module}.weight"), shape)
    }

    /// Reads a bias or the weight of a norm, which are added to or multiplied with activations.
    fn vector(&mut self, module: &str, kind: &str, width: usize) -> Result<Tensor, ModelError> {
        let vector = self.weights.get(&format!("{module}.{kind}"), &[width])?;
        Ok(vector.to_dtype(ops::stream_dtype(vector.dtype(), vector.device()))?)
    }

    fn linear(&mut self, module: &str, shape: [usize; 2], bias: bool) -> Result<Linear, ModelError> {
        let weight = self.weights.matrix(&format!("{module}.weight"), shape)?;
        let bias = if bias { Some(self.vector(module, "bias", shape[0])?) } else { None };
        Ok(Linear::frozen(weight, bias))
    }

    fn norm(&mut self, module: &str, kind: NormKind, width: usize) -> Result<Norm, ModelError> {
        let weight = WeightTensor::Frozen(self.vector(module, "weight", width)?);
        let bias = match kind {
            NormKind::Rms | NormKind::RmsOffset => None,
            NormKind::Layer => Some(WeightTensor::Frozen(self.vector(module, "bias", width)?)),
        };
        let offset = kind == NormKind::RmsOffset;
        Ok(Norm { weight, bias, offset, epsilon: self.architecture.epsilon })
    }

    fn block(&mut self, layer: usize) -> Result<DecoderBlock, ModelError> {
        let a = self.architecture;
        let names = a.names();
        let in_block = |module: &str| names.in_block(layer, module);
        let (query, key) = (a.query_heads * a.head_dim, a.key_heads * a.head_dim);
        let mut projection = |name: &str, output: usize| {
            self.linear(&in_block(name), [output, a.hidden], a.biases.projections)
        };
        let projections = match names.projections {
            Projections::Separate([q, k, v]) => {
                Projections::Separate([projection(q, query)?, projection(k, key)?, projection(v, key)?])
            }
            Projections::Fused(name) => Projections::Fused(projection(name, query + 2 * key)?),
        };
        let output = self.linear(&in_block(names.output), [a.hidden, query], a.biases.output)?;
        // Norms of heads never have a bias.
        let of_heads = if a.norm == NormKind::RmsOffset { NormKind::RmsOffset } else { NormKind::Rms };
        let mut norm = |name: &str| self.norm(&in_block(name), of_heads, a.head_dim);
        let norms = if a.head_norms {
            Some(HeadNorms { query: norm(names.query_norm)?, key: norm(names.key_norm)? })
        } else {
            None
        };
        let (wide, narrow) = ([a.intermediate, a.hidden], [a.hidden, a.intermediate]);
        let mut linear = |name: &str, shape| self.linear(&in_block(name), shape, a.biases.mlp);
        let mlp = match names.mlp {
            Mlp::Gated([gate, up, down], kind) => {
                Mlp::Gated([linear(gate, wide)?, linear(up, wide)?, linear(down, narrow)?], kind)
            }
            Mlp::Plain([up, down], gelu) => Mlp::Plain([linear(up, wide)?, linear(down, narrow)?], gelu),
        };
        let mut norm = |name: &str| self.norm(&in_block(name), a.norm, a.hidden);
        Ok(DecoderBlock {
            attention_norm: norm(names.attention_norm)?,
            attention: Attention { projections, norms, output, kind: a.layer_attention(layer) },
            mlp_norm: norm(names.mlp_norm)?,
            mlp,
            post_norms: match names.post_norms {
                Some([attention, mlp]) => Some(PostNorms { attention: norm(attention)?, mlp: norm(mlp)? }),
                None => None,
            },
            residual: a.residual,
        })
    }
}

impl Decoder {
    /// Builds a decoder of frozen weights.
    pub(crate) fn frozen(
        architecture: Architecture,
        weights: &mut dyn TensorSource,
    ) -> Result<Self, ModelError> {
        let a = &architecture;
        let names = a.names();
        let mut builder = Builder { architecture: a, weights };
        let embedding = builder.weight(names.embedding, &[a.vocabulary, a.hidden])?;
        let blocks = (0..a.layers).map(|layer| builder.block(layer)).collect::<Result<_, _>>()?;
        let head =
            if a.tied { embedding.clone() } else { builder.weight(names.head, &[a.vocabulary, a.hidden])? };
        let norm = builder.norm(names.norm, a.norm, a.hidden)?;
        Ok(Self {
            embedding: WeightTensor::Frozen(embedding),
            blocks,
            head: Head { norm, weight: WeightTensor::Frozen(head) },
            parameters: Parameters::default(),
            rotary: a.rope.table(a.max_positions),
            sliding_rotary: a.sliding_rope.as_ref().map(|rope| rope.table(a.max_positions)),
            state_shards: 1,
            architecture,
        })
    }

    /// Builds a frozen decoder, quantising the matrices of its linear layers if requested.
    pub(crate) fn quantised(
        architecture: Architecture,
        weights: &mut dyn TensorSource,
        quantization: Option<Quantization>,
    ) -> Result<Self, ModelError> {
        match quantization.and_then(Quantization::blocks) {
            Some(kind) => Self::frozen(architecture, &mut QuantisingSource { source: weights, kind }),
            None => Self::frozen(architecture, weights),
        }
    }

    /// Builds a frozen f32 decoder on the CPU with random weights.
    pub fn random(architecture: Architecture, seed: u64) -> Result<Self, ModelError> {
        Self::random_on(&Device::Cpu, architecture, seed, Dtype::F32, None)
    }

    /// Builds a frozen decoder on `device` with random weights, optionally quantised. The host
    /// holds one matrix at a time.
    pub fn random_on(
        device: &Device,
        architecture: Architecture,
        seed: u64,
        dtype: Dtype,
        quantization: Option<Quantization>,
    ) -> Result<Self, ModelError> {
        let architecture = architecture.validate()?;
        let mut weights = RandomWeights::new(&architecture, seed, dtype.to_candle(), device.clone());
        Self::quantised(architecture, &mut weights, quantization)
    }

    /// Builds a frozen decoder whose random weights a GPU draws itself, to measure speed and
    /// memory: within seconds, but with other values on every device.
    pub fn random_drawn_on(
        device: &Device,
        architecture: Architecture,
        dtype: Dtype,
        quantization: Option<Quantization>,
    ) -> Result<Self, ModelError> {
        if device.is_cpu() {
            return Self::random_on(device, architecture, 0, dtype, quantization);
        }
        let architecture = architecture.validate()?;
        let weights = RandomWeights::new(&architecture, 0, dtype.to_candle(), device.clone());
        Self::quantised(architecture, &mut DeviceRandomWeights(weights), quantization)
    }
}
