//! GGUF files, dequantised at load.

use std::path::{Path, PathBuf};

use candle_core::{
    DType, Device, Tensor,
    quantized::gguf_file::{Content, Value},
};
use fs_err::File;

use super::{Weights, with_shape};
use crate::{Architecture, ModelError, ops::RotaryPairs};

/// An open GGUF file of architecture `llama`.
pub(crate) struct Gguf {
    path: PathBuf,
    file: File,
    content: Content,
    dtype: DType,
    device: Device,
}

impl Gguf {
    pub(crate) fn open(path: &Path, dtype: DType, device: Device) -> Result<Self, ModelError> {
        let mut file = File::open(path)?;
        let content = Content::read(&mut file).map_err(|error| {
            ModelError::Weights(format!("{}: not a whole GGUF file: {error}", path.display()))
        })?;
        Ok(Self { path: path.to_owned(), file, content, dtype, device })
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

    /// A whole number of any width.
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
            .ok_or_else(|| self.fail(&format!("`{key}` is not a count")))
    }

    fn real(&self, key: &str) -> Result<f64, ModelError> {
        match self.value(key)? {
            Value::F32(x) => Ok(f64::from(*x)),
            Value::F64(x) => Ok(*x),
            _ => Err(self.fail(&format!("`{key}` is not a number with decimals"))),
        }
    }

    pub(crate) fn architecture(&self) -> Result<Architecture, ModelError> {
        let family = self.text("general.architecture")?;
        if family != "llama" {
            return Err(self.fail(&format!("architecture `{family}` is not supported; only `llama` is")));
        }
        let hidden = self.number("llama.embedding_length")?;
        let query_heads = self.number("llama.attention.head_count")?;
        let embedding = self.content.tensor_infos.get("token_embd.weight");
        let vocabulary = embedding.and_then(|info| info.shape.dims().first().copied());
        Architecture {
            vocabulary: vocabulary.ok_or_else(|| self.fail("tensor `token_embd.weight` is missing"))?,
            hidden,
            intermediate: self.number("llama.feed_forward_length")?,
            layers: self.number("llama.block_count")?,
            query_heads,
            key_heads: self.number("llama.attention.head_count_kv").unwrap_or(query_heads),
            head_dim: self.number("llama.attention.key_length").unwrap_or(hidden / query_heads.max(1)),
            max_positions: self.number("llama.context_length")?,
            rope_theta: self.real("llama.rope.freq_base").unwrap_or(10_000.0),
            epsilon: self.real("llama.attention.layer_norm_rms_epsilon")?,
            tied: !self.content.tensor_infos.contains_key("output.weight"),
            rotary_pairs: RotaryPairs::Halves,
        }
        .validate()
    }
}

/// The GGUF name of a tensor in a Hugging Face checkpoint.
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
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    let part = part.strip_suffix(".weight")?;
    parts.iter().find(|(theirs, _)| *theirs == part).map(|(_, gguf)| format!("blk.{layer}.{gguf}.weight"))
}

/// GGUF keeps the rows of Q and K in the order of interleaved pairs; Hugging Face checkpoints in halves.
fn interleaved_to_halves(weight: &Tensor, head_dim: usize) -> candle_core::Result<Tensor> {
    let (rows, columns) = weight.dims2()?;
    weight
        .reshape((rows / head_dim, head_dim / 2, 2, columns))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((rows, columns))
}

impl Weights for Gguf {
    fn get(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let file = self.path.display().to_string();
        let fail = |message: String| ModelError::Weights(format!("{file}: {message}"));
        let ours = gguf_name(name).ok_or_else(|| fail(format!("no GGUF name is known for `{name}`")))?;
        let tensor = self
            .content
            .tensor(&mut self.file, &ours, &Device::Cpu)
            .and_then(|quantised| quantised.dequantize(&Device::Cpu))
            .map_err(|error| fail(format!("tensor `{ours}` cannot be read: {error}; is the file whole?")))?;
        let mut tensor = with_shape(&file, &ours, tensor, shape)?;
        if ours.ends_with("attn_q.weight") || ours.ends_with("attn_k.weight") {
            tensor = interleaved_to_halves(&tensor, self.architecture()?.head_dim)?;
        }
        Ok(tensor.to_dtype(self.dtype)?.to_device(&self.device)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_translated() {
        assert_eq!(gguf_name("model.layers.3.mlp.up_proj.weight").as_deref(), Some("blk.3.ffn_up.weight"));
        assert_eq!(gguf_name("lm_head.weight").as_deref(), Some("output.weight"));
        assert_eq!(gguf_name("model.layers.3.self_attn.q_proj.bias"), None);
    }

    #[test]
    fn rows_are_put_back_in_halves() {
        let rows = Tensor::arange(0f32, 8.0, &Device::Cpu).unwrap().reshape((8, 1)).unwrap();
        let halves = interleaved_to_halves(&rows, 4).unwrap().flatten_all().unwrap();
        assert_eq!(halves.to_vec1::<f32>().unwrap(), [0., 2., 1., 3., 4., 6., 5., 7.]);
    }
}
