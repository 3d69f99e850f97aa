//! Decoder architectures: the sizes of a model, and one choice for each part in which the model
//! families differ.

mod config;
mod names;
mod parts;
mod published;
mod rope;
mod window;

pub(crate) use names::TensorNames;
pub use parts::GateKind;
pub(crate) use parts::{AttentionHeads, Mlp, Projections};
pub(crate) use rope::RotaryTable;
pub use rope::{Rope, RopeScaling, RotaryPairs};
pub use window::{LayerAttention, SlidingWindow};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ModelError;
use config::HfConfig;

/// Sizes and choices that determine a decoder's tensors and arithmetic. Read and written as the
/// keys of a Hugging Face `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "HfConfig", into = "HfConfig")]
pub struct Architecture {
    /// Model family, which determines the tensor names.
    pub family: Family,
    /// Number of tokens in the vocabulary.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Number of query heads.
    pub query_heads: usize,
    /// Number of key and value heads.
    pub key_heads: usize,
    /// Dimensions of a head.
    pub head_dim: usize,
    /// Number of positions the model was trained for.
    pub max_positions: usize,
    /// Factor of the embedding's rows.
    pub embedding_scale: EmbeddingScale,
    /// Norm of the blocks and of the final norm.
    pub norm: NormKind,
    /// Places of the norms of a block.
    pub norm_placement: NormPlacement,
    /// Constant added to the mean square, or the variance, in norms.
    pub epsilon: f64,
    /// Form of the MLP.
    pub mlp: MlpKind,
    /// Residual connections of attention and MLP.
    pub residual: Residual,
    /// Linear layers of a block that have a bias.
    pub biases: Biases,
    /// Applies a norm to every query and key head before the rotary embedding.
    pub head_norms: bool,
    /// Attention scores are divided by the root of this number: `head_dim` in most families.
    pub query_scalar: f64,
    /// Rotary position embedding.
    pub rope: Rope,
    /// Rotary position embedding of blocks with a sliding window; None for `rope`.
    pub sliding_rope: Option<Rope>,
    /// Sliding window of some or all blocks; None for full attention in all of them.
    pub window: Option<SlidingWindow>,
    /// Shares the embedding's weight with the vocabulary head.
    pub tied: bool,
}

/// Supported model families, named as in `model_type`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Llama 1 to 3, SmolLM2.
    #[default]
    Llama,
    /// Mistral.
    Mistral,
    /// Qwen2 and Qwen2.5.
    Qwen2,
    /// Qwen3.
    Qwen3,
    /// GPT-NeoX, Pythia.
    GptNeox,
    /// Gemma 3, text only.
    #[serde(rename = "gemma3_text")]
    Gemma3,
}

/// Factor of the rows of the embedding at the input of the first block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmbeddingScale {
    /// 1.
    One,
    /// √hidden, rounded to the type of the weights as in `transformers`.
    RootHidden,
}

/// Normalisation of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// RMS norm: x·w / rms(x).
    Rms,
    /// RMS norm whose weight is stored as the difference from 1: x·(1 + w) / rms(x).
    RmsOffset,
    /// Layer norm: the RMS norm of x − mean(x), plus a bias.
    Layer,
}

/// Places of the norms of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormPlacement {
    /// Before attention and before the MLP.
    Before,
    /// Before and after attention, and before and after the MLP.
    BeforeAndAfter,
}

/// Form of an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MlpKind {
    /// down(act(gate(x))·up(x)).
    Gated(GateKind),
    /// down(gelu(up(x))).
    Gelu(GeluKind),
}

/// Variant of the GELU activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GeluKind {
    /// x·Φ(x), with Φ the normal distribution function.
    Exact,
    /// x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2.
    Tanh,
}

/// Residual connections of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residual {
    /// The MLP reads the sum of the block's input and attention.
    Sequential,
    /// Attention and MLP both read the block's input, and both outputs are added to it.
    Parallel,
}

/// Linear layers of a block that have a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Biases {
    /// Query, key and value projections.
    pub projections: bool,
    /// Output projection of attention.
    pub output: bool,
    /// Layers of the MLP.
    pub mlp: bool,
}

impl Architecture {
    /// Returns the bytes of the keys and values of one sequence of `tokens`, with numbers of
    /// `bytes` bytes.
    pub fn cache_bytes(&self, tokens: usize, bytes: usize) -> usize {
        2 * self.layers * self.key_heads * self.head_dim * tokens * bytes
    }

    /// Returns the shape of full attention.
    pub(crate) fn heads(&self) -> AttentionHeads {
        let heads = AttentionHeads::new(self.query_heads, self.key_heads, self.head_dim);
        AttentionHeads { scale: self.query_scalar.sqrt().recip(), ..heads }
    }

    /// Returns the attention of block `layer`.
    pub(crate) fn layer_attention(&self, layer: usize) -> LayerAttention {
        let layers = self.window.as_ref().map(|window| window.layers.as_slice());
        layers.and_then(|layers| layers.get(layer).copied()).unwrap_or(LayerAttention::Full)
    }

    /// Returns the value of a norm's weight with which the norm only normalises.
    pub(crate) fn neutral_norm_weight(&self) -> f64 {
        match self.norm {
            NormKind::Rms | NormKind::Layer => 1.0,
            NormKind::RmsOffset => 0.0,
        }
    }

    /// Checks that the sizes are consistent.
    pub fn validate(self) -> Result<Self, ModelError> {
        let fail = |message: String| Err(ModelError::Architecture(message));
        let sizes = [
            ("vocab_size", self.vocabulary),
            ("hidden_size", self.hidden),
            ("intermediate_size", self.intermediate),
            ("num_hidden_layers", self.layers),
            ("num_attention_heads", self.query_heads),
            ("num_key_value_heads", self.key_heads),
            ("max_position_embeddings", self.max_positions),
            ("sliding_window", self.window.as_ref().map_or(1, |window| window.positions)),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return fail(format!("{name} is 0"));
        }
        if !self.query_heads.is_multiple_of(self.key_heads) {
            return fail(format!(
                "num_attention_heads ({}) is not a multiple of num_key_value_heads ({})",
                self.query_heads, self.key_heads
            ));
        }
        if self.family == Family::GptNeox && self.query_heads != self.key_heads {
            return fail("gpt_neox needs as many key heads as query heads".to_owned());
        }
        if self.head_dim == 0 || !self.head_dim.is_multiple_of(2) {
            return fail(format!("head_dim is {}, not a positive even number", self.head_dim));
        }
        if self.rope.dims == 0 || !self.rope.dims.is_multiple_of(2) || self.rope.dims > self.head_dim {
            return fail(format!(
                "{} of the {} dimensions of a head are rotated; the number must be positive and even",
                self.rope.dims, self.head_dim
            ));
        }
        if !(self.query_scalar.is_finite() && self.query_scalar > 0.0) {
            return fail("query_pre_attn_scalar is not a number above 0".to_owned());
        }
        for rope in std::iter::once(&self.rope).chain(&self.sliding_rope) {
            rope.validate()?;
        }
        Ok(self)
    }
}
