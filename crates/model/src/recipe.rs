//! Model recipes: `models/*.yaml`.

use std::{error::Error, path::PathBuf};

use candle_core::{DType, quantized::GgmlDType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Activations, Architecture, ModelError};

/// A model recipe as typed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// A Hugging Face folder, a `.gguf` file, an `hf://` address of either, or `random`.
    pub weights: String,
    /// Where the tokenizer is: `bytes` (one token a byte), or a `tokenizer.json`; else it comes with the weights.
    pub tokenizer: Option<String>,
    /// The chat template: `chatml`, or a Jinja file; else it comes with the weights, and is `chatml` if they have none.
    pub chat_template: Option<String>,
    /// Element type of the weights: f32, or bf16 on a GPU.
    #[serde(default)]
    pub dtype: Dtype,
    /// How the frozen matrices of linear layers are kept in memory beside an adapter, to be widened for each product: in
    /// blocks of a GGUF type, or `file`: in those of the `.gguf` file itself. Embedding, head and norms stay in `dtype`.
    pub quantization: Option<Quantization>,
    /// What is trained: `lora` or `full`.
    #[serde(default)]
    pub train: TrainKind,
    /// The adapter, for `train: lora`.
    pub lora: Option<Lora>,
    /// What a forward pass keeps: `keep`, or `recompute` for less memory, or as much as fits into `memory`.
    pub activations: Option<ActivationsKind>,
    /// Memory for weights, optimizer and activations (`8GiB`): activations that do not fit are computed again.
    pub memory: Option<Bytes>,
    /// The shape, for `weights: random`.
    pub architecture: Option<Architecture>,
    /// Seed of random weights.
    #[serde(default)]
    pub init_seed: u64,
}

/// Element type of the weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// Single precision.
    #[default]
    F32,
    /// bfloat16, on a GPU.
    Bf16,
}

impl Dtype {
    /// As candle calls it.
    pub fn to_candle(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }
}

/// How frozen matrices are kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Quantization {
    /// The blocks of the `.gguf` file. What an SFT stage makes of such weights is kept in 8 bits (`q8_0`).
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
    /// The type of the blocks, unless the file says it.
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

    /// For weights that training made of those kept so.
    #[must_use]
    pub fn trained(self) -> Self {
        if self == Self::File { Self::Q8_0 } else { self }
    }
}

/// What is trained, as typed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TrainKind {
    /// A low-rank adapter.
    #[default]
    Lora,
    /// All weights.
    Full,
}

/// What a forward pass keeps, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ActivationsKind {
    /// What every block needs.
    Keep,
    /// The inputs of blocks.
    Recompute,
}

/// An amount of memory, as typed: a number with `GiB`, `MiB` or `KiB`.
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
        parsed.ok_or_else(|| format!("`{text}` is no amount of memory; write it like 8GiB or 500MiB"))
    }
}

/// A low-rank adapter on every linear layer of the blocks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// Rank.
    pub r: usize,
    /// The update is alpha/r · B·A.
    pub alpha: f64,
}

/// Where weights come from.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightsSource {
    /// A folder with `config.json` and safetensors.
    Folder(PathBuf),
    /// A GGUF file.
    Gguf(PathBuf),
    /// Drawn from a seed.
    Random(Architecture, u64),
}

/// Where a tokenizer comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenizerSource {
    /// With the weights.
    Weights,
    /// One token a byte.
    Bytes,
    /// A `tokenizer.json`.
    File(PathBuf),
}

/// Where a chat template comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TemplateSource {
    /// With the weights; ChatML if they have none.
    Weights,
    /// ChatML.
    Chatml,
    /// A Jinja file.
    File(PathBuf),
}

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Train {
    /// A low-rank adapter beside frozen weights.
    Lora(Lora),
    /// All weights.
    Full,
}

/// A resolved model recipe.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recipe {
    /// What was typed for `weights`: the base model's name.
    pub name: String,
    /// Where weights come from.
    pub weights: WeightsSource,
    /// Where the tokenizer comes from.
    pub tokenizer: TokenizerSource,
    /// Where the chat template comes from.
    pub chat_template: TemplateSource,
    /// Element type of the weights.
    pub dtype: Dtype,
    /// How frozen matrices are kept, if not in `dtype`.
    pub quantization: Option<Quantization>,
    /// What is trained.
    pub train: Train,
    /// What a forward pass keeps.
    pub activations: Activations,
}

/// Turns a path or address of a recipe into a local path.
pub type PathResolver<'a> = dyn Fn(&str) -> Result<PathBuf, Box<dyn Error + Send + Sync>> + 'a;

impl ModelFile {
    /// Resolves the recipe; `locate` turns paths and `hf://` addresses into local paths.
    pub fn resolve(self, locate: &PathResolver<'_>) -> Result<Recipe, ModelError> {
        let fail = |message: String| ModelError::Recipe(message);
        let find = |key: &str, path: &str| locate(path).map_err(|error| fail(format!("`{key}`: {error}")));
        let weights = match (self.weights.as_str(), self.architecture) {
            ("random", Some(architecture)) => WeightsSource::Random(architecture.validate()?, self.init_seed),
            ("random", None) => return Err(fail("`weights: random` needs an `architecture`".to_owned())),
            (_, Some(_)) => {
                return Err(fail(
                    "`architecture` is for `weights: random`; other weights bring their own".to_owned(),
                ));
            }
            (address, None) => {
                let path = find("weights", address)?;
                if path.is_dir() { WeightsSource::Folder(path) } else { WeightsSource::Gguf(path) }
            }
        };
        let tokenizer = match self.tokenizer.as_deref() {
            Some("bytes") => TokenizerSource::Bytes,
            Some(path) => TokenizerSource::File(find("tokenizer", path)?),
            None if matches!(weights, WeightsSource::Random(..)) => {
                return Err(fail(
                    "random weights bring no tokenizer: set `tokenizer: bytes` or a path".to_owned(),
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
            (TrainKind::Lora, lora) => Train::Lora(lora.unwrap_or(Lora { r: 16, alpha: 32.0 })),
            (TrainKind::Full, None) => Train::Full,
            (TrainKind::Full, Some(_)) => {
                return Err(fail("`lora` has no effect with `train: full`; remove one of them".to_owned()));
            }
        };
        match (self.quantization, train, &weights) {
            (Some(_), Train::Full, _) => {
                return Err(fail(
                    "`quantization` keeps frozen weights, and `train: full` freezes none; remove one of them"
                        .to_owned(),
                ));
            }
            (Some(Quantization::File), _, WeightsSource::Folder(_) | WeightsSource::Random(..)) => {
                return Err(fail(
                    "`quantization: file` keeps the blocks of a .gguf file, and the weights are none; say q8_0, q6_k, q4_k, q4_0 or bf16"
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
                return Err(fail("`memory` decides what `activations` says; give one of them".to_owned()));
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
