//! Model recipes: `models/*.yaml`.

use std::{error::Error, path::PathBuf};

use candle_core::{DType, quantized::GgmlDType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Activations, Architecture, ModelError, WeightsSource, weights_source::locate_or_name};

/// Model recipe as written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// Weights: a Hugging Face folder, a `.safetensors` file with its `config.json` beside it, a
    /// `.gguf` file, an `hf://` address of one of these, or `random`. The folder of a LoRA adapter
    /// stands for its base model with the adapter merged.
    pub weights: String,
    /// Tokenizer: `bytes` (one token per byte) or a `tokenizer.json`. Default: the tokenizer that
    /// comes with the weights.
    pub tokenizer: Option<String>,
    /// Chat template: `chatml` or a Jinja file. Default: the template that comes with the weights,
    /// or `chatml` if there is none.
    pub chat_template: Option<String>,
    /// Element type of the weights: `f32` or `bf16`. Adapters, their gradients and moments are
    /// `f32`. With `bf16` on a CPU, factors of matrix products are `bf16`; their sums, the residual
    /// stream, norms and softmax are `f32`.
    #[serde(default)]
    pub dtype: Dtype,
    /// Quantisation of the frozen matrices of linear layers under an adapter (QLoRA): a GGUF block
    /// type, or `file` to keep the blocks of the `.gguf` file. They are dequantised for each
    /// product. Embedding, head and norms stay in `dtype`. Default: none.
    pub quantization: Option<Quantization>,
    /// Trained weights: `lora` (an adapter) or `full` (all).
    #[serde(default)]
    pub train: TrainKind,
    /// Adapter settings for `train: lora`. Default: `r: 16`, `alpha: 32`.
    pub lora: Option<LoraConfig>,
    /// Activation checkpointing: `keep` saves all activations, `recompute` saves only the inputs of
    /// blocks. Default: `keep`, or whatever fits into `memory` if that is set.
    pub activations: Option<ActivationsKind>,
    /// Memory budget for weights, optimizer and activations, such as `8GiB`. Activations that do
    /// not fit are recomputed.
    pub memory: Option<Bytes>,
    /// Architecture for `weights: random`.
    pub architecture: Option<Architecture>,
    /// Seed for `weights: random`.
    #[serde(default)]
    pub init_seed: u64,
    /// Training that the weights have been through: `base` (pre-training only), `sft` or `aligned`.
    /// Experiments about unaligned models check it. Default: unknown.
    pub stage: Option<ModelStage>,
    /// Source of `stage`, such as a model card.
    pub stage_source: Option<String>,
}

/// Training that weights have been through before a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModelStage {
    /// Pre-training only, or none (random weights).
    Base,
    /// Supervised fine-tuning after pre-training.
    Sft,
    /// Training on preferences (DPO, RLHF), usually after SFT.
    Aligned,
}

impl ModelStage {
    /// Returns the name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Sft => "sft",
            Self::Aligned => "aligned",
        }
    }
}

/// Element type of the weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Dtype {
    /// Single precision.
    #[default]
    F32,
    /// bfloat16.
    Bf16,
}

impl Dtype {
    /// Converts to candle's type.
    pub fn to_candle(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }
}

/// Storage of frozen matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Quantization {
    /// Blocks of the `.gguf` file. Weights that an SFT stage trained are stored as `q8_0`.
    File,
    /// bfloat16: 16 bits.
    Bf16,
    /// 8.5 bits, in blocks of 32.
    #[serde(rename = "q8_0")]
    Q8_0,
    /// 6.6 bits, in blocks of 256.
    #[serde(rename = "q6_k")]
    Q6K,
    /// 4.5 bits, in blocks of 256.
    #[serde(rename = "q4_k")]
    Q4K,
    /// 4.5 bits, in blocks of 32.
    #[serde(rename = "q4_0")]
    Q4_0,
}

impl Quantization {
    /// Returns the block type; None if the file determines it.
    pub(crate) fn blocks(self) -> Option<GgmlDType> {
        Some(match self {
            Self::File => return None,
            Self::Bf16 => GgmlDType::BF16,
            Self::Q8_0 => GgmlDType::Q8_0,
            Self::Q6K => GgmlDType::Q6K,
            Self::Q4K => GgmlDType::Q4K,
            Self::Q4_0 => GgmlDType::Q4_0,
        })
    }

    /// Returns the storage of weights merged after training.
    #[must_use]
    pub fn trained(self) -> Self {
        if self == Self::File { Self::Q8_0 } else { self }
    }
}

/// Trained weights, as written in a recipe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TrainKind {
    /// LoRA adapter.
    #[default]
    Lora,
    /// All weights.
    Full,
}

/// Activation checkpointing, as written in a recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ActivationsKind {
    /// Saves all activations.
    Keep,
    /// Saves the inputs of blocks and recomputes the rest.
    Recompute,
}

/// Amount of memory: a number with the unit `GiB`, `MiB` or `KiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(extend("pattern" = "(GiB|MiB|KiB)$"))]
pub struct Bytes(pub u64);

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
        let parsed = units.iter().find_map(|(unit, shift)| {
            let number = text.strip_suffix(unit)?.trim().parse::<f64>().ok()?;
            (number.is_finite() && number > 0.0).then_some(Self((number * f64::from(1 << shift)) as u64))
        });
        parsed.ok_or_else(|| format!("`{text}` is not an amount of memory; write it like 8GiB or 500MiB"))
    }
}

/// LoRA adapter on every linear layer of the blocks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Lora")]
pub struct LoraConfig {
    /// Rank of the adapter.
    pub r: usize,
    /// Scale: the update of a weight is alpha/r · B·A.
    pub alpha: f64,
}

/// Source of the tokenizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenizerSource {
    /// Comes with the weights.
    Weights,
    /// One token per byte.
    Bytes,
    /// `tokenizer.json`.
    File(PathBuf),
}

/// Source of the chat template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TemplateSource {
    /// Comes with the weights; ChatML if they have none.
    Weights,
    /// ChatML.
    Chatml,
    /// Jinja file.
    File(PathBuf),
}

/// Trained weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Train {
    /// LoRA adapter on frozen weights.
    Lora(LoraConfig),
    /// All weights.
    Full,
}

/// Resolved model recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Name of the base model: the value of `weights` as written.
    pub name: String,
    /// Source of the weights.
    pub weights: WeightsSource,
    /// Source of the tokenizer.
    pub tokenizer: TokenizerSource,
    /// Source of the chat template.
    pub chat_template: TemplateSource,
    /// Element type of the weights.
    pub dtype: Dtype,
    /// Storage of frozen matrices; None for `dtype`.
    pub quantization: Option<Quantization>,
    /// Trained weights.
    pub train: Train,
    /// Activation checkpointing.
    pub activations: Activations,
    /// Training that the weights have been through; None if unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<ModelStage>,
    /// Source of `stage`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage_source: Option<String>,
}

impl Recipe {
    /// Returns true if the weights are on this machine. Others can be planned, not loaded.
    pub fn is_fetched(&self) -> bool {
        self.weights.is_fetched()
    }

    /// Returns the training that the weights have been through; None if unknown. Random weights are
    /// base weights unless the recipe says otherwise.
    pub fn start(&self) -> Option<ModelStage> {
        let is_random = matches!(self.weights, WeightsSource::Random(..));
        self.stage.or(is_random.then_some(ModelStage::Base))
    }
}

/// Function that maps a path or `hf://` address in a recipe to a local path.
pub type PathResolver<'a> = dyn Fn(&str) -> Result<PathBuf, Box<dyn Error + Send + Sync>> + 'a;

impl ModelFile {
    /// Checks the recipe and resolves its paths and `hf://` addresses with `locate`. If that
    /// reports [`NotFetched`](prospect_core::not_fetched::NotFetched), the recipe can be planned,
    /// not loaded.
    pub fn resolve(self, locate: &PathResolver<'_>) -> Result<Recipe, ModelError> {
        let fail = |message: String| ModelError::Recipe(message);
        let find = |key: &str, path: &str| {
            locate_or_name(path, locate).map_err(|error| fail(format!("`{key}`: {error}")))
        };
        let weights = match (self.weights.as_str(), self.architecture) {
            ("random", Some(architecture)) => {
                WeightsSource::Random(Box::new(architecture.validate()?), self.init_seed)
            }
            ("random", None) => return Err(fail("`weights: random` needs an `architecture`".to_owned())),
            (_, Some(_)) => {
                return Err(fail(
                    "`architecture` is only for `weights: random`; other weights come with their own"
                        .to_owned(),
                ));
            }
            (address, None) => WeightsSource::from_path(find("weights", address)?, locate)?,
        };
        let tokenizer = match self.tokenizer.as_deref() {
            Some("bytes") => TokenizerSource::Bytes,
            Some(path) => TokenizerSource::File(find("tokenizer", path)?),
            None if matches!(weights, WeightsSource::Random(..)) => {
                return Err(fail(
                    "random weights come without a tokenizer; set `tokenizer:` to `bytes` or a path"
                        .to_owned(),
                ));
            }
            None => TokenizerSource::Weights,
        };
        let chat_template = match self.chat_template.as_deref() {
            Some("chatml") => TemplateSource::Chatml,
            Some(path) => TemplateSource::File(find("chat_template", path)?),
            None => TemplateSource::Weights,
        };
        let train = match (self.train, self.lora) {
            (TrainKind::Lora, Some(lora)) if lora.r == 0 => {
                return Err(fail("`lora.r` must be at least 1".to_owned()));
            }
            (TrainKind::Lora, lora) => Train::Lora(lora.unwrap_or(LoraConfig { r: 16, alpha: 32.0 })),
            (TrainKind::Full, None) => Train::Full,
            (TrainKind::Full, Some(_)) => {
                return Err(fail("`lora` has no effect with `train: full`; remove one of them".to_owned()));
            }
        };
        if self.stage.is_none() && self.stage_source.is_some() {
            return Err(fail(
                "`stage_source` has no effect without `stage`: base, sft or aligned".to_owned(),
            ));
        }
        match (self.quantization, train) {
            (Some(_), Train::Full) => {
                return Err(fail(
                    "`quantization` has no effect with `train: full`, which has no frozen weights; remove one of them"
                        .to_owned(),
                ));
            }
            (Some(Quantization::File), _) if !weights.is_gguf() => {
                return Err(fail(
                    "`quantization: file` needs the weights of a .gguf file; use q8_0, q6_k, q4_k, q4_0 or bf16"
                        .to_owned(),
                ));
            }
            _ => {}
        }
        let activations = match (self.activations, self.memory) {
            (None | Some(ActivationsKind::Keep), None) => Activations::Keep,
            (Some(ActivationsKind::Recompute), None) => Activations::Recompute,
            (None, Some(Bytes(bytes))) => Activations::Within(bytes),
            (Some(_), Some(_)) => {
                return Err(fail("`memory` and `activations` exclude each other: `memory` chooses the activations; remove one of them".to_owned()));
            }
        };
        Ok(Recipe {
            name: self.weights,
            weights,
            tokenizer,
            chat_template,
            dtype: self.dtype,
            quantization: self.quantization,
            train,
            activations,
            stage: self.stage,
            stage_source: self.stage_source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory_have_units() {
        let parse = |text: &str| Bytes::try_from(text.to_owned()).map(|bytes| bytes.0);
        assert_eq!((parse("8GiB"), parse("1.5 MiB")), (Ok(8 << 30), Ok(3 << 19)));
        for wrong in ["8", "8GB", "-1GiB", "GiB", "infGiB"] {
            assert!(parse(wrong).is_err_and(|error| error.contains("8GiB")), "{wrong}");
        }
    }
}
