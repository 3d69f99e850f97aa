//! Puts a decoder together from weights, makes parts of it trainable, and takes adapters into the base.

use candle_core::{DType, Device, Tensor};
use prospect_core::draw::Draw;

use crate::{
    Architecture, Decoder, ModelError,
    layers::{Block, Head, Linear, Norm},
    parameters::{Parameters, Weight},
    recipe::Lora,
    weights::{Weights, normal},
};

impl Decoder {
    /// A decoder of frozen weights.
    pub(crate) fn frozen(architecture: Architecture, weights: &mut dyn Weights) -> Result<Self, ModelError> {
        let a = &architecture;
        let (query, key) = (a.query_heads * a.head_dim, a.key_heads * a.head_dim);
        let embedding = weights.get("model.embed_tokens.weight", &[a.vocabulary, a.hidden])?;
        let (device, dtype) = (embedding.device().clone(), embedding.dtype());
        let norm = |weights: &mut dyn Weights, name: &str| -> Result<Norm, ModelError> {
            Ok(Norm { weight: Weight::Frozen(weights.get(name, &[a.hidden])?), epsilon: a.epsilon })
        };
        let mut blocks = Vec::with_capacity(a.layers);
        for layer in 0..a.layers {
            let mut linear = |name: &str, output: usize, input: usize| -> Result<Linear, ModelError> {
                Ok(Linear::frozen(
                    weights.get(&format!("model.layers.{layer}.{name}.weight"), &[output, input])?,
                ))
            };
            let [q, k, v] = [("q", query), ("k", key), ("v", key)]
                .map(|(name, output)| linear(&format!("self_attn.{name}_proj"), output, a.hidden));
            let o = linear("self_attn.o_proj", a.hidden, query)?;
            let [gate, up] =
                ["gate", "up"].map(|name| linear(&format!("mlp.{name}_proj"), a.intermediate, a.hidden));
            let down = linear("mlp.down_proj", a.hidden, a.intermediate)?;
            blocks.push(Block {
                attention_norm: norm(weights, &format!("model.layers.{layer}.input_layernorm.weight"))?,
                mlp_norm: norm(weights, &format!("model.layers.{layer}.post_attention_layernorm.weight"))?,
                q: q?,
                k: k?,
                v: v?,
                o,
                gate: gate?,
                up: up?,
                down,
            });
        }
        let head = if a.tied {
            embedding.clone()
        } else {
            weights.get("lm_head.weight", &[a.vocabulary, a.hidden])?
        };
        let head = Head { norm: norm(weights, "model.norm.weight")?, weight: Weight::Frozen(head) };
        let rotation = rotation(a, dtype, &device)?;
        let embedding = Weight::Frozen(embedding);
        Ok(Self { embedding, blocks, head, parameters: Parameters::default(), rotation, architecture })
    }

    /// The same weights, all of them trainable.
    pub fn with_all_trained(&self) -> Result<Self, ModelError> {
        let mut decoder = self.merged()?;
        let mut parameters = Parameters::default();
        let mut train = |name: String, weight: &mut Weight| -> Result<(), ModelError> {
            *weight = Weight::Trained(parameters.add(name, weight.value())?);
            Ok(())
        };
        train("model.embed_tokens.weight".to_owned(), &mut decoder.embedding)?;
        for (layer, block) in decoder.blocks.iter_mut().enumerate() {
            for (name, linear) in block.linears_mut() {
                train(format!("model.layers.{layer}.{name}.weight"), &mut linear.weight)?;
            }
            for (name, norm) in block.norms_mut() {
                train(format!("model.layers.{layer}.{name}.weight"), &mut norm.weight)?;
            }
        }
        train("model.norm.weight".to_owned(), &mut decoder.head.norm.weight)?;
        if decoder.architecture.tied {
            decoder.head.weight = decoder.embedding.clone();
        } else {
            train("lm_head.weight".to_owned(), &mut decoder.head.weight)?;
        }
        decoder.parameters = parameters;
        Ok(decoder)
    }

    /// The same weights, frozen, with a fresh adapter on every linear layer of the blocks. A is drawn from a normal
    /// distribution of variance 1/(3·in), B is zero: the policy starts as the base model.
    pub fn with_lora(&self, lora: Lora, seed: u64) -> Result<Self, ModelError> {
        let mut decoder = self.merged()?;
        let mut parameters = Parameters::default();
        for (layer, block) in decoder.blocks.iter_mut().enumerate() {
            for (name, linear) in block.linears_mut() {
                let (output, input) = linear.weight.value().dims2()?;
                let (device, dtype) = (linear.weight.value().device(), linear.weight.value().dtype());
                let module = format!("model.layers.{layer}.{name}");
                // The variance of PEFT's default, Kaiming-uniform with a = √5.
                let deviation = (3.0 * input as f64).sqrt().recip();
                let a = normal(&Draw::new(seed, &module), lora.r * input, deviation);
                let a =
                    Tensor::from_vec(a, (lora.r, input), &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?;
                let b = Tensor::zeros((output, lora.r), dtype, device)?;
                linear.lora = Some(crate::layers::Lora {
                    a: parameters.add(format!("{module}.lora_A.weight"), &a)?,
                    b: parameters.add(format!("{module}.lora_B.weight"), &b)?,
                    scale: lora.alpha / lora.r as f64,
                });
            }
        }
        decoder.parameters = parameters;
        Ok(decoder)
    }

    /// The same policy, frozen, with adapters taken into the weights. Weights without an adapter that were frozen
    /// before are shared, not copied.
    pub fn merged(&self) -> Result<Self, ModelError> {
        let mut decoder = self.clone();
        let freeze = |weight: &mut Weight| -> Result<(), ModelError> {
            if let Weight::Trained(parameter) = weight {
                *weight = Weight::Frozen(parameter.value().copy()?);
            }
            Ok(())
        };
        freeze(&mut decoder.embedding)?;
        for block in &mut decoder.blocks {
            for (_, linear) in block.linears_mut() {
                if linear.lora.is_some() {
                    *linear = Linear::frozen(linear.merged()?);
                } else {
                    freeze(&mut linear.weight)?;
                }
            }
            for (_, norm) in block.norms_mut() {
                freeze(&mut norm.weight)?;
            }
        }
        freeze(&mut decoder.head.norm.weight)?;
        if decoder.architecture.tied {
            decoder.head.weight = decoder.embedding.clone();
        } else {
            freeze(&mut decoder.head.weight)?;
        }
        decoder.parameters = Parameters::default();
        Ok(decoder)
    }
}

/// cos and sin of `position·θ^(−2i/head_dim)`, computed in f64.
fn rotation(a: &Architecture, dtype: DType, device: &Device) -> Result<(Tensor, Tensor), ModelError> {
    let half = a.head_dim / 2;
    let frequencies: Vec<f64> =
        (0..half).map(|i| a.rope_theta.powf(-2.0 * i as f64 / a.head_dim as f64)).collect();
    let table = |function: fn(f64) -> f64| -> Result<Tensor, ModelError> {
        let values: Vec<f64> = (0..a.max_positions)
            .flat_map(|position| {
                frequencies.iter().map(move |frequency| function(position as f64 * frequency))
            })
            .collect();
        Ok(Tensor::from_vec(values, (a.max_positions, half), &Device::Cpu)?
            .to_dtype(dtype)?
            .to_device(device)?)
    };
    Ok((table(f64::cos)?, table(f64::sin)?))
}
