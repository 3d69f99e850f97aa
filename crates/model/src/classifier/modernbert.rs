//! ModernBERT (arXiv 2412.13663): rotary positions, gated MLPs, and attention that is local in most
//! layers.

use std::ops::Range;

use candle_core::{Device, Result, Tensor};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::layers::{Activation, EncoderBatch, LayerLoader, apply, normalise, query_chunks, weighted_values};
use crate::{
    LayerAttention, ModelError,
    architecture::{Rope, RotaryPairs},
    layers::{Linear, Norm},
    ops,
    weights::TensorSource,
};

/// Relevant keys of a `config.json`. The default of a key is that of `transformers`.
#[expect(clippy::struct_excessive_bools, reason = "keys of the file")]
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(super) struct ModernBertConfig {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    hidden_activation: Activation,
    max_position_embeddings: usize,
    norm_eps: f64,
    norm_bias: bool,
    attention_bias: bool,
    mlp_bias: bool,
    global_rope_theta: Option<f64>,
    local_rope_theta: Option<f64>,
    rope_parameters: Option<Map<String, Value>>,
    global_attn_every_n_layers: usize,
    layer_types: Option<Vec<LayerAttention>>,
    local_attention: usize,
    classifier_pooling: Pooling,
    classifier_bias: bool,
    classifier_activation: Activation,
}

impl Default for ModernBertConfig {
    fn default() -> Self {
        Self {
            vocab_size: 50_368,
            hidden_size: 768,
            intermediate_size: 1152,
            num_hidden_layers: 22,
            num_attention_heads: 12,
            hidden_activation: Activation::Gelu,
            max_position_embeddings: 8192,
            norm_eps: 1e-5,
            norm_bias: false,
            attention_bias: false,
            mlp_bias: false,
            global_rope_theta: None,
            local_rope_theta: None,
            rope_parameters: None,
            global_attn_every_n_layers: 3,
            layer_types: None,
            local_attention: 128,
            classifier_pooling: Pooling::Cls,
            classifier_bias: false,
            classifier_activation: Activation::Gelu,
        }
    }
}

/// Rows of the last layer that are classified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Pooling {
    /// First token.
    Cls,
    /// Mean of all tokens.
    Mean,
}

fn fail(message: impl Into<String>) -> ModelError {
    ModelError::Architecture(format!("config.json: {}", message.into()))
}

impl ModernBertConfig {
    fn check(&self) -> std::result::Result<(), ModelError> {
        let Self { hidden_size, num_attention_heads: heads, .. } = self;
        if *heads == 0 || hidden_size % heads != 0 || hidden_size / heads % 2 != 0 {
            return Err(fail(format!(
                "hidden_size {hidden_size} is no even multiple of num_attention_heads {heads}"
            )));
        }
        if self.global_attn_every_n_layers == 0 {
            return Err(fail("global_attn_every_n_layers is 0"));
        }
        match self.layer_types.as_ref().map(Vec::len) {
            Some(types) if types != self.num_hidden_layers => Err(fail(format!(
                "layer_types has {types} entries for {} hidden layers",
                self.num_hidden_layers
            ))),
            _ => Ok(()),
        }
    }

    fn kind(&self, layer: usize) -> LayerAttention {
        match &self.layer_types {
            Some(types) => types[layer],
            None if layer.is_multiple_of(self.global_attn_every_n_layers) => LayerAttention::Full,
            None => LayerAttention::Sliding,
        }
    }

    /// Returns the rotation in layers of a kind.
    fn rope(&self, kind: LayerAttention) -> std::result::Result<Rope, ModelError> {
        let (name, old, usual) = match kind {
            LayerAttention::Full => ("full_attention", self.global_rope_theta, 160_000.0),
            LayerAttention::Sliding => ("sliding_attention", self.local_rope_theta, 10_000.0),
        };
        let own = self
            .rope_parameters
            .as_ref()
            .and_then(|parameters| parameters.get(name))
            .and_then(Value::as_object);
        let is_scaled = own.and_then(|own| own.get("rope_type")).is_some_and(|kind| kind != "default");
        if is_scaled {
            return Err(fail(format!("rope_parameters.{name}: scaled rotary positions are not supported")));
        }
        let own = own.and_then(|own| own.get("rope_theta")).and_then(Value::as_f64);
        let theta = own.or(old).unwrap_or(usual);
        let dims = self.hidden_size / self.num_attention_heads;
        Ok(Rope { theta, dims, scaling: None, pairs: RotaryPairs::Halves })
    }
}

struct ModernBertLayer {
    kind: LayerAttention,
    /// None in the first layer, whose input is normalised already.
    attention_norm: Option<Norm>,
    /// Queries, keys and values of all heads.
    projection: Linear,
    output: Linear,
    mlp_norm: Norm,
    /// Gate and up projection.
    gated: Linear,
    down: Linear,
}

/// ModernBERT with a classifier of one label.
pub(super) struct ModernBert {
    config: ModernBertConfig,
    words: Tensor,
    norm: Norm,
    layers: Vec<ModernBertLayer>,
    final_norm: Norm,
    head: Linear,
    head_norm: Norm,
    classifier: Linear,
    /// Rotations of full and of local attention.
    ropes: [Rope; 2],
}

impl ModernBert {
    pub(super) fn load(
        config: ModernBertConfig,
        weights: &mut dyn TensorSource,
        device: &Device,
    ) -> std::result::Result<Self, ModelError> {
        config.check()?;
        let hidden = config.hidden_size;
        let mut loader = LayerLoader { weights, device, epsilon: config.norm_eps };
        let words = loader.tensor("model.embeddings.tok_embeddings.weight", &[config.vocab_size, hidden])?;
        let norm = loader.norm("model.embeddings.norm", hidden, config.norm_bias)?;
        let layers = (0..config.num_hidden_layers).map(|index| layer(&config, &mut loader, index));
        let layers = layers.collect::<std::result::Result<_, _>>()?;
        let final_norm = loader.norm("model.final_norm", hidden, config.norm_bias)?;
        let head = loader.linear("head.dense", [hidden, hidden], config.classifier_bias)?;
        let head_norm = loader.norm("head.norm", hidden, config.norm_bias)?;
        let classifier = loader.linear("classifier", [1, hidden], true)?;
        let ropes = [config.rope(LayerAttention::Full)?, config.rope(LayerAttention::Sliding)?];
        Ok(Self { config, words, norm, layers, final_norm, head, head_norm, classifier, ropes })
    }

    /// Returns the number of positions that the model was trained for.
    pub(super) fn max_positions(&self) -> usize {
        self.config.max_position_embeddings
    }

    /// Computes the score of each sequence, `[sequences, 1]`.
    pub(super) fn scores(&self, batch: &EncoderBatch) -> std::result::Result<Tensor, ModelError> {
        batch.check(self.config.vocab_size, self.max_positions())?;
        let device = self.words.device();
        let rotations = self.ropes.each_ref().map(|rope| {
            rope.table(self.max_positions()).cos_sin(&batch.positions, self.words.dtype(), device)
        });
        let [full, local] = rotations;
        let (full, local) = (full?, local?);
        let words = self.words.index_select(&Tensor::new(batch.tokens.as_slice(), device)?, 0)?;
        let mut x = normalise(&self.norm, &words)?;
        for layer in &self.layers {
            let rotation = if layer.kind == LayerAttention::Full { &full } else { &local };
            x = apply(&layer.output, &self.attention(layer, &x, batch, rotation)?, Some(&x))?;
            let wide = apply(&layer.gated, &normalise(&layer.mlp_norm, &x)?, None)?;
            let half = self.config.intermediate_size;
            let [gate, up] = [wide.narrow(1, 0, half)?.contiguous()?, wide.narrow(1, half, half)?];
            let product = (self.config.hidden_activation.apply(&gate)? * up)?;
            x = apply(&layer.down, &product, Some(&x))?;
        }
        let x = normalise(&self.final_norm, &x)?;
        let pooled = match self.config.classifier_pooling {
            Pooling::Cls => batch.first_rows(&x)?,
            Pooling::Mean => batch.mean_rows(&x)?,
        };
        let activated = self.config.classifier_activation.apply(&apply(&self.head, &pooled, None)?)?;
        Ok(apply(&self.classifier, &normalise(&self.head_norm, &activated)?, None)?)
    }

    fn attention(
        &self,
        layer: &ModernBertLayer,
        x: &Tensor,
        batch: &EncoderBatch,
        (cos, sin): &(Tensor, Tensor),
    ) -> Result<Tensor> {
        let (hidden, heads) = (self.config.hidden_size, self.config.num_attention_heads);
        let dim = hidden / heads;
        let normed = match &layer.attention_norm {
            Some(norm) => normalise(norm, x)?,
            None => x.clone(),
        };
        let all = apply(&layer.projection, &normed, None)?;
        let part = |index: usize| all.narrow(1, index * hidden, hidden)?.contiguous();
        let rotated = |x: &Tensor| ops::rotary(x, cos, sin, dim, RotaryPairs::Halves, false);
        let (q, k, v) = (rotated(&part(0)?)?, rotated(&part(1)?)?, part(2)?);
        let reach = match layer.kind {
            LayerAttention::Full => None,
            LayerAttention::Sliding => Some(self.config.local_attention / 2),
        };
        let scale = (dim as f64).sqrt().recip();
        batch.attention([&q, &k, &v], heads, |_, [q, k, v]| {
            let (tokens, q) = (q.dim(1)?, (q * scale)?);
            let mut attended = Vec::new();
            for queries in query_chunks(tokens, heads, tokens) {
                let keys = match reach {
                    None => 0..tokens,
                    Some(reach) => queries.start.saturating_sub(reach)..(queries.end + reach).min(tokens),
                };
                let part =
                    |x: &Tensor, rows: &Range<usize>| x.narrow(1, rows.start, rows.len())?.contiguous();
                let scores = part(&q, &queries)?.matmul(&part(&k, &keys)?.t()?.contiguous()?)?;
                let scores = match reach.filter(|reach| keys.len() > reach + 1) {
                    Some(reach) => scores.broadcast_add(&local_mask(&queries, &keys, reach, q.device())?)?,
                    None => scores,
                };
                attended.push(weighted_values(&scores, &part(&v, &keys)?)?);
            }
            Tensor::cat(&attended, 1)
        })
    }
}

/// Returns 0 for keys within `reach` of a query and −∞ for others, `[queries, keys]`.
fn local_mask(queries: &Range<usize>, keys: &Range<usize>, reach: usize, device: &Device) -> Result<Tensor> {
    let value = |query: usize, key: usize| if query.abs_diff(key) <= reach { 0.0 } else { f32::NEG_INFINITY };
    let values: Vec<f32> =
        queries.clone().flat_map(|query| keys.clone().map(move |key| value(query, key))).collect();
    Tensor::from_vec(values, (queries.len(), keys.len()), device)
}

fn layer(
    config: &ModernBertConfig,
    loader: &mut LayerLoader<'_>,
    index: usize,
) -> std::result::Result<ModernBertLayer, ModelError> {
    let (hidden, wide) = (config.hidden_size, config.intermediate_size);
    let module = |name: &str| format!("model.layers.{index}.{name}");
    let attention_norm = match index {
        0 => None,
        _ => Some(loader.norm(&module("attn_norm"), hidden, config.norm_bias)?),
    };
    Ok(ModernBertLayer {
        kind: config.kind(index),
        attention_norm,
        projection: loader.linear(&module("attn.Wqkv"), [3 * hidden, hidden], config.attention_bias)?,
        output: loader.linear(&module("attn.Wo"), [hidden, hidden], config.attention_bias)?,
        mlp_norm: loader.norm(&module("mlp_norm"), hidden, config.norm_bias)?,
        gated: loader.linear(&module("mlp.Wi"), [2 * wide, hidden], config.mlp_bias)?,
        down: loader.linear(&module("mlp.Wo"), [hidden, wide], config.mlp_bias)?,
    })
}
