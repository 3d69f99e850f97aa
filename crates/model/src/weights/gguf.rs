//! GGUF files, dequantised on load unless the recipe keeps their blocks.

mod names;
mod parts;
mod tensor_types;

use std::path::{Path, PathBuf};

use candle_core::{
    DType, Device, Tensor,
    quantized::{QTensor, gguf_file::Value},
};

use super::{LinearWeight, QuantisedMatrix, TensorSource, check_shape};
use crate::{
    Architecture, Biases, EmbeddingScale, Family, GateKind, GeluKind, MlpKind, ModelError, NormKind,
    NormPlacement, Residual, Rope, RopeScaling, RotaryPairs, SlidingWindow, parameters::WeightTensor,
};
use names::{gguf_name, interleaved_row};
use parts::Part;

/// Open GGUF file, or the parts of a split one.
pub(crate) struct GgufFile {
    path: PathBuf,
    /// The first has the metadata.
    parts: Vec<Part>,
    dtype: DType,
    device: Device,
    /// Keeps the matrices of linear layers in the file's blocks.
    keep_blocks: bool,
}

impl GgufFile {
    pub(crate) fn open(
        path: &Path,
        dtype: DType,
        device: Device,
        keep_blocks: bool,
    ) -> Result<Self, ModelError> {
        Ok(Self { path: path.to_owned(), parts: parts::open(path)?, dtype, device, keep_blocks })
    }

    /// Returns the paths of all parts of a split file, or the path itself.
    pub(crate) fn parts(path: &Path) -> Vec<PathBuf> {
        parts::paths(path)
    }

    fn fail(&self, message: &str) -> ModelError {
        ModelError::Weights(format!("{}: {message}", self.path.display()))
    }

    pub(crate) fn value(&self, key: &str) -> Result<&Value, ModelError> {
        let value = self.parts.first().and_then(|part| part.content.metadata.get(key));
        value.ok_or_else(|| self.fail(&format!("metadata `{key}` is missing")))
    }

    pub(crate) fn text(&self, key: &str) -> Result<&str, ModelError> {
        self.value(key)?
            .to_string()
            .map(String::as_str)
            .map_err(|error| self.fail(&format!("`{key}`: {error}")))
    }

    /// Reads a non-negative integer of any width.
    pub(crate) fn number(&self, key: &str) -> Result<usize, ModelError> {
        let number = match self.value(key)? {
            Value::U8(x) => Some(u64::from(*x)),
            Value::U16(x) => Some(u64::from(*x)),
            Value::U32(x) => Some(u64::from(*x)),
            Value::U64(x) => Some(*x),
            Value::I32(x) => u64::try_from(*x).ok(),
            Value::I64(x) => u64::try_from(*x).ok(),
            _ => None,
        };
        number
            .and_then(|x| usize::try_from(x).ok())
            .ok_or_else(|| self.fail(&format!("`{key}` is not a non-negative integer")))
    }

    /// Returns the text of the beginning-of-sequence token.
    pub(crate) fn bos_token(&self) -> Option<String> {
        let id = self.number("tokenizer.ggml.bos_token_id").ok()?;
        let tokens = self.value("tokenizer.ggml.tokens").ok()?.to_vec().ok()?;
        tokens.get(id)?.to_string().ok().cloned()
    }

    fn float(&self, key: &str) -> Result<f64, ModelError> {
        match self.value(key)? {
            Value::F32(x) => Ok(f64::from(*x)),
            Value::F64(x) => Ok(*x),
            _ => Err(self.fail(&format!("`{key}` is not a floating-point number"))),
        }
    }

    fn has(&self, tensor: &str) -> bool {
        parts::find(&self.parts, tensor).is_some()
    }

    pub(crate) fn architecture(&mut self) -> Result<Architecture, ModelError> {
        let name = self.text("general.architecture")?.to_owned();
        let family = self.family(&name)?;
        let number = |key: &str| self.number(&format!("{name}.{key}"));
        let hidden = number("embedding_length")?;
        let query_heads = number("attention.head_count")?;
        let head_dim = self.head_dim(&name)?;
        let layers = number("block_count")?;
        let embedding = parts::find(&self.parts, "token_embd.weight");
        let vocabulary = embedding.and_then(|(_, info)| info.shape.dims().first().copied());
        let gemma = family == Family::Gemma3;
        let rope = |theta: f64, scaling: Option<RopeScaling>| Rope {
            theta,
            dims: number("rope.dimension_count").unwrap_or(head_dim),
            scaling,
            pairs: RotaryPairs::Halves,
        };
        let theta = self.float(&format!("{name}.rope.freq_base"));
        let mut architecture = Architecture {
            family,
            vocabulary: vocabulary.ok_or_else(|| self.fail("tensor `token_embd.weight` is missing"))?,
            hidden,
            intermediate: number("feed_forward_length")?,
            layers,
            query_heads,
            key_heads: number("attention.head_count_kv").unwrap_or(query_heads),
            head_dim,
            max_positions: number("context_length")?,
            embedding_scale: if gemma { EmbeddingScale::RootHidden } else { EmbeddingScale::One },
            norm: if gemma { NormKind::RmsOffset } else { NormKind::Rms },
            norm_placement: if gemma { NormPlacement::BeforeAndAfter } else { NormPlacement::Before },
            epsilon: self.float(&format!("{name}.attention.layer_norm_rms_epsilon"))?,
            mlp: MlpKind::Gated(if gemma { GateKind::Gelu(GeluKind::Tanh) } else { GateKind::Silu }),
            residual: Residual::Sequential,
            biases: Biases {
                projections: family == Family::Qwen2 || self.has("blk.0.attn_q.bias"),
                output: self.has("blk.0.attn_output.bias"),
                mlp: self.has("blk.0.ffn_up.bias"),
            },
            head_norms: gemma || family == Family::Qwen3,
            query_scalar: query_scalar(family, [layers, hidden, query_heads, head_dim]),
            rope: rope(theta.unwrap_or(if gemma { 1e6 } else { 1e4 }), self.scaling(&name)?),
            // Not in the file: the same in all models of the family.
            sliding_rope: gemma.then(|| rope(10_000.0, None)),
            window: if gemma {
                let positions = number("attention.sliding_window")?;
                SlidingWindow::with_pattern(positions, layers, GEMMA3_PATTERN)
            } else {
                None
            },
            tied: !self.has("output.weight"),
        }
        .validate()?;
        if self.has(FREQUENCY_FACTORS) {
            architecture.rope.scaling = Some(self.llama3_scaling(&architecture)?);
        }
        Ok(architecture)
    }

    /// Returns the family of an architecture name.
    fn family(&self, name: &str) -> Result<Family, ModelError> {
        if self.number(&format!("{name}.expert_count")).is_ok_and(|experts| experts > 0) {
            return Err(self.fail("mixtures of experts are not supported"));
        }
        match name {
            "llama" => Ok(Family::Llama),
            "qwen2" => Ok(Family::Qwen2),
            "qwen3" => Ok(Family::Qwen3),
            "gemma3" => Ok(Family::Gemma3),
            "gptneox" => Err(self.fail(
                "GPT-NeoX and Pythia are not supported as GGUF files; use the model's safetensors folder",
            )),
            other => Err(self.fail(&format!(
                "architecture `{other}` is not supported; llama (with Mistral), qwen2, qwen3 and gemma3 are"
            ))),
        }
    }

    fn head_dim(&self, name: &str) -> Result<usize, ModelError> {
        if let Ok(head_dim) = self.number(&format!("{name}.attention.key_length")) {
            return Ok(head_dim);
        }
        let hidden = self.number(&format!("{name}.embedding_length"))?;
        Ok(hidden / self.number(&format!("{name}.attention.head_count"))?.max(1))
    }

    fn scaling(&self, name: &str) -> Result<Option<RopeScaling>, ModelError> {
        let factor = || self.float(&format!("{name}.rope.scaling.factor"));
        match self.text(&format!("{name}.rope.scaling.type")) {
            Err(_) | Ok("none") => Ok(None),
            Ok("linear") => Ok(Some(RopeScaling::Linear { factor: factor()? })),
            Ok("yarn") => Err(self.fail(
                "rope scaling `yarn` is not supported in GGUF files; use the model's safetensors folder",
            )),
            Ok(other) => Err(self.fail(&format!("rope scaling `{other}` is not supported"))),
        }
    }

    /// Recovers the parameters of a Llama 3.1 scaling. GGUF files keep only the divisor of each
    /// frequency. All known models share three of the four parameters, and the result is checked
    /// against the divisors.
    fn llama3_scaling(&mut self, architecture: &Architecture) -> Result<RopeScaling, ModelError> {
        let width = architecture.rope.dims / 2;
        let divisors = self.tensor(FREQUENCY_FACTORS, &[width])?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let scaling = RopeScaling::Llama3 {
            factor: divisors.iter().copied().fold(1.0, f64::max),
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        };
        let frequencies = |scaling| {
            let rope = Rope { scaling, ..architecture.rope.clone() };
            rope.table(architecture.max_positions).frequencies
        };
        let (plain, scaled) = (frequencies(None), frequencies(Some(scaling.clone())));
        let mut triples = plain.iter().zip(scaled).zip(divisors);
        if triples.all(|((plain, scaled), divisor)| (plain / scaled / divisor - 1.0).abs() < 1e-3) {
            return Ok(scaling);
        }
        Err(self.fail(&format!(
            "`{FREQUENCY_FACTORS}` is not the scaling of Llama 3.1; use the model's safetensors"
        )))
    }

    /// Reads the blocks of a tensor by its GGUF name, on the CPU.
    fn blocks(&mut self, name: &str, shape: &[usize]) -> Result<QTensor, ModelError> {
        let Some((index, header)) = parts::find(&self.parts, name) else {
            return Err(self.fail(&format!("tensor `{name}` is missing; is the file complete?")));
        };
        check_shape(&self.path.display().to_string(), name, header.shape.dims(), shape)?;
        // The library multiplies the dimensions, and then the bytes of a block, without a look at
        // overflow.
        let block_bytes = header.ggml_dtype.type_size();
        if shape.iter().try_fold(block_bytes, |product, size| product.checked_mul(*size)).is_none() {
            return Err(
                self.fail(&format!("tensor `{name}` claims the shape {shape:?}, which no file holds"))
            );
        }
        let Part { file, content } = &mut self.parts[index];
        content.tensor(file, name, &Device::Cpu).map_err(|error| {
            self.fail(&format!("tensor `{name}` cannot be read: {error}; is the file complete?"))
        })
    }

    /// Reads and dequantises a tensor by its GGUF name, on the CPU.
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        Ok(self.blocks(name, shape)?.dequantize(&Device::Cpu)?)
    }

    /// Translates a Hugging Face name to GGUF. Also returns the head dimension if the rows are in
    /// the order of interleaved pairs.
    fn gguf_name(&self, name: &str) -> Result<(String, Option<usize>), ModelError> {
        let architecture = self.text("general.architecture")?;
        let ours = gguf_name(name, architecture == "gemma3");
        let ours = ours.ok_or_else(|| self.fail(&format!("`{name}` has no GGUF name")))?;
        let rotated = ours.contains(".attn_q.") || ours.contains(".attn_k.");
        let interleaved = rotated && architecture == "llama";
        let head_dim = if interleaved { Some(self.head_dim("llama")?) } else { None };
        Ok((ours, head_dim))
    }
}

/// Returns the number whose root divides attention scores. It is not in the file; only the
/// largest Gemma 3 model has another one than the head dimension.
fn query_scalar(family: Family, [layers, hidden, query_heads, head_dim]: [usize; 4]) -> f64 {
    let largest = family == Family::Gemma3 && layers == GEMMA3_27B_LAYERS;
    (if largest { hidden / query_heads.max(1) } else { head_dim }) as f64
}

/// Divisors of the rotary frequencies.
const FREQUENCY_FACTORS: &str = "rope_freqs.weight";

/// Every block of this number has full attention, in all Gemma 3 models.
const GEMMA3_PATTERN: usize = 6;

/// Blocks of Gemma 3 27B.
const GEMMA3_27B_LAYERS: usize = 62;

impl GgufFile {
    /// Reads the blocks of a matrix by its Hugging Face name.
    fn quantised(
        &mut self,
        name: &str,
        shape: [usize; 2],
        device: &Device,
    ) -> Result<QuantisedMatrix, ModelError> {
        let (name, head_dim) = self.gguf_name(name)?;
        let blocks = self.blocks(&name, &shape)?;
        let row = |row| head_dim.map_or(row, |head_dim| interleaved_row(row, head_dim));
        Ok(QuantisedMatrix::from_file(&blocks, row, self.dtype, device)?)
    }
}

impl TensorSource for GgufFile {
    fn get(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        if let [rows, columns] = *shape {
            // On all threads.
            let dense = self.quantised(name, [rows, columns], &Device::Cpu)?.dense()?;
            return Ok(dense.to_device(&self.device)?);
        }
        let (name, head_dim) = self.gguf_name(name)?;
        let mut tensor = self.tensor(&name, shape)?;
        if name.ends_with("norm.weight") && self.text("general.architecture")? == "gemma3" {
            // The file has 1 + w.
            tensor = (tensor - 1.0)?;
        }
        if let Some(head_dim) = head_dim {
            let rows: Vec<u32> =
                (0..tensor.dim(0)?).map(|row| interleaved_row(row, head_dim) as u32).collect();
            tensor = tensor.index_select(&Tensor::new(rows, &Device::Cpu)?, 0)?;
        }
        Ok(tensor.to_dtype(self.dtype)?.to_device(&self.device)?)
    }

    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<LinearWeight, ModelError> {
        if !self.keep_blocks {
            return Ok(LinearWeight::Plain(WeightTensor::Frozen(self.get(name, &shape)?)));
        }
        let device = self.device.clone();
        Ok(LinearWeight::Quantised(self.quantised(name, shape, &device)?))
    }
}
