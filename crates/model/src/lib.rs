//! Decoder language models that give log-probs of completions and take their gradient.
//!
//! The engine is two calls: [`Decoder::forward`] runs a [`PackedBatch`] and returns log π of every completion with
//! what the backward pass needs; [`Decoder::backward`] takes d loss / d log π and adds up the gradients of the
//! trainable weights. Both are written by hand, layer by layer, on plain tensors: frozen weights get no gradients,
//! a prompt runs once for all of its completions, and logits exist only for completion tokens, a chunk at a time.
//!
//! * [`ModelFile`] is a model recipe as typed (`models/*.yaml`), [`Recipe`] the resolved one, [`Model`] what it loads:
//!   decoder, [`Tokenizer`] and [`ChatTemplate`].
//! * [`Decoder::with_lora`] and [`Decoder::with_all_trained`] make a policy of a frozen model.
//! * [`Decoder::generate`] continues prompts, greedily or by nucleus sampling.
//! * [`Footprint::demand`] says how much memory a step takes, [`Work`] how much arithmetic, without doing it.
//! * [`device`] opens the CPU or a GPU and tells what it is.
//! * [`save_adapter`], [`load_adapter`] and [`Model::save`] write what `peft` and `transformers` load.
//!
//! ```
//! use prospect_model::{Activations, Architecture, Decoder, Gradients, Packer};
//!
//! let architecture: Architecture = serde_json::from_str(
//!     r#"{"vocab_size": 16, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
//!         "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "max_position_embeddings": 32}"#,
//! )?;
//! let policy = Decoder::random(architecture, 0)?.with_all_trained()?;
//! let mut packer = Packer::default();
//! let prompt = packer.prompt(&[1, 2, 3]);
//! packer.completion(prompt, &[4, 5], true);
//! let (log_probs, saved) = policy.forward(&packer.pack()?, Activations::Keep)?;
//! let mut gradients = Gradients::none(policy.parameters());
//! policy.backward(saved, &vec![-1.0; log_probs.len()], &mut gradients)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod architecture;
mod build;
mod decoder;
pub mod device;
mod generate;
mod layers;
mod matrix;
mod memory;
mod model;
mod ops;
mod pack;
mod parameters;
mod recipe;
mod save;
mod template;
mod tokenizer;
mod weights;
mod work;

pub use architecture::{Architecture, Biases, Family, Gelu, MlpKind, NormKind, Residual, Rope, RopeScaling};
pub use decoder::{Activations, Adapter, Decoder, Saved};
pub use generate::{Generated, GenerationConfig, Prompt, Sampling};
pub use memory::{BatchSize, Demand, Footprint, Place};
pub use model::Model;
pub use ops::{AdamWConstants, RotaryPairs, adamw};
pub use pack::{PackedBatch, Packer, PromptId, Scored, Tree};
pub use parameters::{Gradients, Parameter, Parameters};
pub use recipe::{
    Bytes, Dtype, Locate, Lora, ModelFile, Quantization, Recipe, TemplateSource, TokenizerSource, Train,
    WeightsSource,
};
pub use save::{load_adapter, save_adapter};
pub use template::{ChatTemplate, Turn};
pub use tokenizer::Tokenizer;
pub use work::Work;

/// Why a model cannot be loaded, run or saved.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// The recipe cannot be used.
    #[error("model recipe: {0}")]
    Recipe(String),
    /// The architecture cannot be used.
    #[error("model architecture: {0}")]
    Architecture(String),
    /// The device cannot be used.
    #[error("device: {0}")]
    Device(String),
    /// The weights cannot be used.
    #[error("model weights: {0}")]
    Weights(String),
    /// The tokenizer cannot be used.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The chat template cannot be used.
    #[error("chat template: {0}")]
    Template(String),
    /// A batch that no model can run.
    #[error("batch: {0}")]
    Batch(String),
}
