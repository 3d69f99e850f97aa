//! GGUF files, dequantised on load unless the recipe keeps their blocks.

use std::path::{Path, PathBuf};

use candle_core::{
    DType, Device, Tensor,
    quantized::{
        QTensor,
        gguf_file::{Content, Value},
    },
};
use fs_err::File;

use super::{LinearWeight, QuantisedMatrix, TensorSource, check_shape};
use crate::{
    Architecture, Biases, Family, MlpKind, ModelError, NormKind, Residual, Rope, RopeScaling, RotaryPairs,
    parameters::WeightTensor,
};

/// Open GGUF file.
pub(crate) struct GgufFile {
    path: PathBuf,
    file: File,
    content: Content,
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
        let mut file = File::open(path)?;
        let content = Content::read(&mut file).map_err(|error| {
            ModelError::Weights(format!("{}: not a complete GGUF file: {error}", path.display()))
        })?;
        Ok(Self { path: path.to_owned(), file, content, dtype, device, keep_blocks })
    }

    fn fail(&self, message: &str) -> ModelError {
        ModelError::Weights(format!("{}: {message}", self.path.display()))
    }

    pub(crate) fn value(&self, key: &str) -> Result<&Value, ModelError> {
        self.content.metadata.get(key).ok_or_else(|| self.fail(&format!("metadata `{key}` is missing")))
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
        self.content.tensor_infos.contains_key(tensor)
    }

    pub(crate) fn architecture(&mut self) -> Result<Architecture, ModelError> {
        let name = self.text("general.architecture")?.to_owned();
        let family = match name.as_str() {
            "llama" => Family::Llama,
            "qwen2" => Family::Qwen2,
            "qwen3" => Family::Qwen3,
            other => {
                return Err(self.fail(&format!(
                    "GGUF architecture `{other}` is not supported (llama, qwen2 and qwen3 are); use the model's safetensors"
                )));
            }
        };
        let number = |key: &str| self.number(&format!("{name}.{key}"));
        let hidden = number("embedding_length")?;
        let query_heads = number("attention.head_count")?;
        let head_dim = self.head_dim(&name)?;
        let embedding = self.content.tensor_infos.get("token_embd.weight");
        let vocabulary = embedding.and_then(|info| info.shape.dims().first().copied());
        let mut architecture = Architecture {
            family,
            vocabulary: vocabulary.ok_or_else(|| self.fail("tensor `token_embd.weight` is missing"))?,
            hidden,
            intermediate: number("feed_forward_length")?,
            layers: number("block_count")?,
            query_heads,
            key_heads: number("attention.head_count_kv").unwrap_or(query_heads),
            head_dim,
            max_positions: number("context_length")?,
            norm: NormKind::Rms,
            epsilon: self.float(&format!("{name}.attention.layer_norm_rms_epsilon"))?,
            mlp: MlpKind::GatedSilu,
            residual: Residual::Sequential,
            biases: Biases {
                projections: family == Family::Qwen2 || self.has("blk.0.attn_q.bias"),
                output: self.has("blk.0.attn_output.bias"),
                mlp: self.has("blk.0.ffn_up.bias"),
            },
            head_norms: family == Family::Qwen3,
            rope: Rope {
                theta: self.float(&format!("{name}.rope.freq_base")).unwrap_or(10_000.0),
                dims: number("rope.dimension_count").unwrap_or(head_dim),
                scaling: self.scaling(&name)?,
                pairs: RotaryPairs::Halves,
            },
            window: None,
            tied: !self.has("output.weight"),
        }
        .validate()?;
        if self.has(FREQUENCY_FACTORS) {
            architecture.rope.scaling = Some(self.llama3_scaling(&architecture)?);
        }
        Ok(architecture)
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
            Ok(other) => Err(self.fail(&format!(
                "rope scaling `{other}` is not supported in GGUF files; use the model's safetensors"
            ))),
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
        let blocks = self.content.tensor(&mut self.file, name, &Device::Cpu).map_err(|error| {
            self.fail(&format!("tensor `{name}` cannot be read: {error}; is the file complete?"))
        })?;
        check_shape(&self.path.display().to_string(), name, blocks.shape().dims(), shape)?;
        Ok(blocks)
    }

    /// Reads and dequantises a tensor by its GGUF name, on the CPU.
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        Ok(self.blocks(name, shape)?.dequantize(&Device::Cpu)?)
    }

    /// Translates a Hugging Face name to GGUF. Also returns the head dimension if the rows are in
    /// the order of interleaved pairs.
    fn gguf_name(&self, name: &str) -> Result<(String, Option<usize>), ModelError> {
        let ours = gguf_name(name).ok_or_else(|| self.fail(&format!("`{name}` has no GGUF name")))?;
        let rotated = ours.contains(".attn_q.") || ours.contains(".attn_k.");
        let interleaved = rotated && self.text("general.architecture")? == "llama";
        let head_dim = if interleaved { Some(self.head_dim("llama")?) } else { None };
        Ok((ours, head_dim))
    }
}

/// Divisors of the rotary frequencies.
const FREQUENCY_FACTORS: &str = "rope_freqs.weight";

/// Translates a Hugging Face tensor name to GGUF; None if there is no counterpart.
fn gguf_name(name: &str) -> Option<String> {
    let whole = [
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.norm.weight", "output_norm.weight"),
        ("lm_head.weight", "output.weight"),
    ];
    if let Some((_, gguf)) = whole.iter().find(|(theirs, _)| *theirs == name) {
        return Some((*gguf).to_owned());
    }
    let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let parts = [
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    let (part, kind) = part.rsplit_once('.')?;
    parts.iter().find(|(theirs, _)| *theirs == part).map(|(_, gguf)| format!("blk.{layer}.{gguf}.{kind}"))
}

/// Returns the file's row for `row` of a Hugging Face checkpoint. GGUF orders the rows of Llama's Q
/// and K for interleaved pairs, Hugging Face for halves.
fn interleaved_row(row: usize, head_dim: usize) -> usize {
    let (head, within) = (row / head_dim, row % head_dim);
    let half = head_dim / 2;
    head * head_dim + 2 * (within % half) + within / half
}

impl TensorSource for GgufFile {
    fn get(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let (name, head_dim) = self.gguf_name(name)?;
        let mut tensor = self.tensor(&name, shape)?;
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
        let (name, head_dim) = self.gguf_name(name)?;
        let blocks = self.blocks(&name, &shape)?;
        let row = |row| head_dim.map_or(row, |head_dim| interleaved_row(row, head_dim));
        Ok(LinearWeight::Quantised(QuantisedMatrix::from_file(&blocks, row, self.dtype, &self.device)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_translated() {
        assert_eq!(gguf_name("model.layers.3.mlp.up_proj.weight").as_deref(), Some("blk.3.ffn_up.weight"));
        assert_eq!(gguf_name("lm_head.weight").as_deref(), Some("output.weight"));
        assert_eq!(gguf_name("model.layers.3.self_attn.q_proj.bias").as_deref(), Some("blk.3.attn_q.bias"));
        assert_eq!(gguf_name("model.layers.3.self_attn.rotary_emb.inv_freq"), None);
    }

    #[test]
    fn interleaved_rows_are_reordered_to_halves() {
        let rows: Vec<usize> = (0..8).map(|row| interleaved_row(row, 4)).collect();
        assert_eq!(rows, [0, 2, 1, 3, 4, 6, 5, 7]);
    }
}
