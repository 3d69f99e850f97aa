//! What a decoder is made of: its sizes, and a choice for each part in which the families differ.

mod config;
mod names;
mod published;
mod rope;

pub(crate) use names::Names;
pub(crate) use rope::Rotation;
pub use rope::{Rope, RopeScaling};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ModelError, ops::Heads};
use config::Config;

/// The sizes and choices that fix a decoder's tensors and arithmetic. Typed and saved as the keys of `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Config", into = "Config")]
pub struct Architecture {
    /// Whose names the tensors have.
    pub family: Family,
    /// Tokens in the vocabulary.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads.
    pub query_heads: usize,
    /// Key and value heads.
    pub key_heads: usize,
    /// Dimensions of a head.
    pub head_dim: usize,
    /// Positions the model was made for.
    pub max_positions: usize,
    /// The norms of blocks and before the head.
    pub norm: NormKind,
    /// Added to the mean square, or variance, in norms.
    pub epsilon: f64,
    /// The MLP's form.
    pub mlp: MlpKind,
    /// How attention and MLP are joined.
    pub residual: Residual,
    /// Which linear layers of a block add a bias.
    pub biases: Biases,
    /// Whether queries and keys are normed, head by head, before they are rotated.
    pub head_norms: bool,
    /// Rotary position embeddings.
    pub rope: Rope,
    /// Positions that a token looks back on, itself included, where that is not all of them.
    pub window: Option<usize>,
    /// Whether the head shares the embedding's weight.
    pub tied: bool,
}

/// The families whose checkpoints are known, under the names of `model_type`.
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

/// How rows are normed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// x·w / rms(x).
    Rms,
    /// The same of x − mean(x), and a bias added.
    Layer,
}

/// An MLP's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MlpKind {
    /// down(silu(gate(x))·up(x)).
    GatedSilu,
    /// down(gelu(up(x))).
    Gelu(Gelu),
}

/// Which function is meant by gelu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gelu {
    /// x·Φ(x), Φ the normal distribution function.
    Exact,
    /// x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2.
    Tanh,
}

/// How attention and MLP are joined with the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residual {
    /// The MLP sees what attention added.
    Sequential,
    /// Both see the block's input, and both are added.
    Parallel,
}

/// Which linear layers of a block add a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Biases {
    /// Query, key and value projections.
    pub projections: bool,
    /// Attention's output projection.
    pub output: bool,
    /// The MLP's layers.
    pub mlp: bool,
}

impl Architecture {
    /// The shape of attention.
    pub(crate) fn heads(&self) -> Heads {
        Heads { query: self.query_heads, key: self.key_heads, dim: self.head_dim }
    }

    /// The longest sequence the model can take: within it, a sliding window hides nothing.
    pub fn longest(&self) -> usize {
        self.window.map_or(self.max_positions, |window| window.min(self.max_positions))
    }

    /// Refuses numbers that no decoder can have.
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
            return fail("gpt_neox has as many key heads as query heads".to_owned());
        }
        if self.head_dim == 0 || !self.head_dim.is_multiple_of(2) {
            return fail(format!("head_dim is {}, not a positive even number", self.head_dim));
        }
        if self.rope.dims == 0 || !self.rope.dims.is_multiple_of(2) || self.rope.dims > self.head_dim {
            return fail(format!(
                "{} of the {} dimensions of a head are rotated: not a positive even number of them",
                self.rope.dims, self.head_dim
            ));
        }
        self.rope.validate()?;
        Ok(self)
    }

    /// Number of weights, a shared head counted once.
    pub fn parameter_count(&self) -> Result<usize, ModelError> {
        Ok(crate::weights::Count::of(self)?.numbers)
    }
}
