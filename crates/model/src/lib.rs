//! Decoder language models that return log-probs of completions and backpropagate through them.
//!
//! The engine is two calls. [`Decoder::forward`] runs a [`PackedBatch`] and returns log π of every
//! completion, together with the activations saved for the backward pass. [`Decoder::backward`]
//! takes d loss / d log π and accumulates the gradients of the trainable weights. Both are written
//! by hand, layer by layer, on plain tensors:
//!
//! * frozen weights get no gradients;
//! * a prompt runs once for all of its completions;
//! * logits exist only for completion tokens, one chunk at a time.
//!
//! | topic | types |
//! |---|---|
//! | recipe (`models/*.yaml`) | [`ModelFile`] as typed, [`Recipe`] as resolved |
//! | loaded model | [`Model`]: a [`Decoder`], a [`Tokenizer`] and a [`ChatTemplate`] |
//! | policies | [`Decoder::with_lora`], [`Decoder::with_all_trained`] |
//! | batches | [`Packer`], [`PackedBatch`] |
//! | generation | [`Decoder::generate`]: greedy, nucleus or ancestral sampling |
//! | KL divergence of generations | [`Decoder::token_divergences`] |
//! | cost of a step | [`Footprint::demand`] for memory, [`Flops`] for arithmetic; nothing is run |
//! | reward models of the Hub | [`SequenceClassifier`] |
//! | devices | [`device`] |
//! | files of `peft` and `transformers` | [`save_adapter`], [`load_adapter`], [`Model::save`] |
//!
//! ```
//! use prospect_model::{Activations, Architecture, Decoder, Gradients, Packer};
//!
//! let architecture: Architecture = serde_json::from_str(
//!     r#"{"vocab_size": 16, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
//!         "num_attention_heads": 2, "max_position_embeddings": 32}"#,
//! )?;
//! let policy = Decoder::random(architecture, 0)?.with_all_trained()?;
//! let mut packer = Packer::default();
//! let prompt = packer.add_prompt(&[1, 2, 3]);
//! packer.add_completion(prompt, &[4, 5], true);
//! let (log_probs, saved) = policy.forward(&packer.pack()?, Activations::Keep)?;
//! let mut gradients = Gradients::none(policy.parameters());
//! policy.backward(saved, &vec![-1.0; log_probs.len()], &mut gradients)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod adapter;
mod architecture;
mod classifier;
mod cost;
mod decoder;
pub mod device;
mod error;
mod layers;
mod model;
mod ops;
mod pack;
mod parameters;
mod recipe;
mod recorded;
mod save;
mod template;
mod token_ids;
mod tokenizer;
mod weights;
mod weights_source;

pub use architecture::{
    Architecture, Biases, EmbeddingScale, Family, GateKind, GeluKind, LayerAttention, MlpKind, NormKind,
    NormPlacement, Residual, Rope, RopeScaling, RotaryPairs, SlidingWindow,
};
pub use classifier::{
    ClassifierFamily, ClassifierInput, ClassifierText, EncodedPair, PairEncoder, SequenceClassifier,
};
pub use cost::{BatchSize, Flops, Footprint, MemoryDemand, TrainedElements};
pub use decoder::{Activations, Adapter, Decoder, Generated, GenerationConfig, Prompt, Sampling, Saved};
pub use device::DeviceKind;
pub use error::{ModelError, is_out_of_memory};
pub use model::Model;
pub use ops::{AdamWConstants, AdamWUpdate, adamw, sum_of_squares};
pub use pack::{PackedBatch, Packer, PromptId, PromptTree, ScoredToken, SequenceText};
pub use parameters::{Gradients, Parameter, Parameters};

pub use recipe::{
    Bytes, Dtype, LoraConfig, ModelFile, ModelStage, PathResolver, Quantization, Recipe, TemplateSource,
    TokenizerSource, Train,
};
pub use save::{load_adapter, save_adapter, write_tensors};
pub use template::{AcceptedTurns, ChatMessage, ChatTemplate, EndMarker, RenderedCompletion};
pub use tokenizer::Tokenizer;
pub use weights_source::WeightsSource;
