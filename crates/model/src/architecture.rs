//! Decoder architectures: the sizes of a model, and one choice for each part in which the model
//! families differ.

mod config;
mod names;
mod parts;
mod published;
mod rope;

pub(crate) use names::TensorNames;
pub(crate) use parts::{AttentionHeads, Mlp, Projections};
pub(crate) use rope::RotaryTable;
pub use rope::{Rope, RopeScaling, RotaryPairs};

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
    /// Norm of the blocks and of the final norm.
    pub norm: NormKind,
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
    /// Rotary position embedding.
    pub rope: Rope,
    /// Sliding window in positions, the token itself included; None for full attention.
    pub window: Option<usize>,
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
}

/// Normalisation of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// RMS norm: x·w / rms(x).
    Rms,
    /// Layer norm: the RMS norm of x − mean(x), plus a bias.
    Layer,
}

/// Form of an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MlpKind {
    /// SwiGLU: down(silu(gate(x))·up(x)).
    GatedSilu,
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
    pub(crate) fn heads(&self) -> AttentionHeads {
        AttentionHeads { query: self.query_heads, key: self.key_heads, dim: self.head_dim }
    }

    /// Returns the length of the longest supported sequence. Up to this length a sliding window
    /// masks nothing.
    pub fn longest(&self) -> usize {
        self.window.map_or(self.max_positions, |window| window.min(self.max_positions))
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
            ("sliding_window", self.longest()),
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
        self.rope.validate()?;
        Ok(self)
    }
}
