//! Checkpoints and adapters in the formats of `transformers` and `peft`.

use std::{
    io::{self, BufWriter, Write},
    path::Path,
};

use candle_core::{Tensor, safetensors::load};
use fs_err::File;
use prospect_core::{
    checksums,
    files::{write_json, write_whole_at},
};
use safetensors::{
    View,
    tensor::{Metadata, TensorInfo},
};

use crate::{
    Decoder, LoraConfig, ModelError, RotaryPairs,
    adapter::{AdapterConfig, CONFIG as ADAPTER_CONFIG, WEIGHTS as ADAPTER_WEIGHTS},
    layers::WeightMut,
    recorded::check_recorded,
};

/// Writes all weights of `decoder`, adapters merged, to one safetensors file.
pub(crate) fn save_weights(decoder: &Decoder, path: &Path) -> Result<(), ModelError> {
    if decoder.architecture.rope.pairs != RotaryPairs::Halves {
        return Err(ModelError::Weights(
            "a model with interleaved rotary pairs cannot be saved in Hugging Face layout".to_owned(),
        ));
    }
    let mut decoder = decoder.merged()?.dequantised()?;
    let weights = decoder.weights_mut().into_iter();
    let tensors = weights.filter_map(|(name, weight)| match weight {
        WeightMut::Whole(weight) => Some((name, weight.value().clone())),
        // None is left after `dequantised`.
        WeightMut::Sharded(_) => None,
    });
    save_tensors(tensors.collect(), path)
}

/// Writes the adapter of `decoder` to `folder` in PEFT's format, with the hashes of the files;
/// `base` names the base model.
pub fn save_adapter(
    decoder: &Decoder,
    lora: LoraConfig,
    base: &str,
    folder: &Path,
) -> Result<(), ModelError> {
    fs_err::create_dir_all(folder)?;
    let named = decoder.parameters.iter();
    let tensors: Vec<_> = named
        .map(|(name, parameter)| (format!("base_model.model.{name}"), parameter.value().clone()))
        .collect();
    save_tensors(tensors, &folder.join(ADAPTER_WEIGHTS))?;
    // Last component of each adapted layer's name, in layer order.
    let mut modules: Vec<&str> = Vec::new();
    for (name, _) in decoder.parameters.iter() {
        let module = name.strip_suffix(".lora_A.weight").and_then(|layer| layer.rsplit('.').next());
        modules.extend(module.filter(|module| !modules.contains(module)));
    }
    let config = serde_json::json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": lora.r,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "target_modules": modules,
    });
    write_json(&folder.join(ADAPTER_CONFIG), &config)?;
    Ok(checksums::record(folder, &[ADAPTER_CONFIG, ADAPTER_WEIGHTS])?)
}

/// Loads an adapter written by [`save_adapter`], or by `peft` on all linear layers, onto the frozen
/// `base`.
pub fn load_adapter(base: &Decoder, folder: &Path) -> Result<Decoder, ModelError> {
    let fail = |message: String| ModelError::Weights(format!("{}: {message}", folder.display()));
    check_recorded(folder, ADAPTER_WEIGHTS)?;
    let config = AdapterConfig::open(folder)?;
    let policy = base.with_lora(LoraConfig { r: config.r, alpha: config.alpha() }, 0)?;
    let tensors = load(folder.join(ADAPTER_WEIGHTS), base.device())
        .map_err(|error| fail(format!("{ADAPTER_WEIGHTS}: {error}")))?;
    for (name, parameter) in policy.parameters.iter() {
        let tensor = tensors.get(&format!("base_model.model.{name}"));
        let tensor = tensor.ok_or_else(|| fail(format!("tensor `{name}` is missing")))?;
        if tensor.shape() != parameter.value().shape() {
            return Err(fail(format!(
                "tensor `{name}` has shape {:?}: which does not fit the base model; is this the model the adapter was trained on?",
                tensor.dims()
            )));
        }
        parameter.var().set(&tensor.to_dtype(parameter.value().dtype())?)?;
    }
    Ok(policy)
}

fn save_tensors(tensors: Vec<(String, Tensor)>, path: &Path) -> Result<(), ModelError> {
    write_whole_at(path, |aside| Ok(write_tensors(aside, tensors, &[])?))
}

/// Writes tensors and entries of metadata to a new safetensors file, in the order of
/// `safetensors::serialize`.
///
/// The crate's own `serialize_to_file` makes a temporary file beside `path`, which a killed process
/// leaves behind, and which only its owner may read.
///
/// # Errors
/// The file cannot be written.
pub fn write_tensors(
    path: &Path,
    mut tensors: Vec<(String, Tensor)>,
    metadata: &[(&str, &str)],
) -> io::Result<()> {
    tensors.sort_by(|(name, one), (other_name, other)| {
        View::dtype(&other).cmp(&View::dtype(&one)).then(name.cmp(other_name))
    });
    let mut end = 0;
    let infos = tensors.iter().map(|(name, tensor)| {
        let start = end;
        end += View::data_len(&tensor);
        let (dtype, shape) = (View::dtype(&tensor), tensor.dims().to_vec());
        (name.clone(), TensorInfo { dtype, shape, data_offsets: (start, end) })
    });
    let entries = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let metadata = if metadata.is_empty() { None } else { Some(entries.collect()) };
    let header = Metadata::new(metadata, infos.collect()).map_err(io::Error::other)?;
    let mut header = serde_json::to_vec(&header)?;
    // Data begins at a multiple of 8 bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    for (_, tensor) in &tensors {
        file.write_all(&View::data(&tensor))?;
    }
    file.flush()
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn written_tensors_are_those_of_the_safetensors_crate() {
        let tensor = |dtype, shape: &[usize]| {
            Tensor::rand(-1f32, 1.0, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
        };
        let tensors = vec![
            ("b".to_owned(), tensor(DType::F32, &[3, 2])),
            ("c".to_owned(), tensor(DType::BF16, &[5])),
            ("a".to_owned(), tensor(DType::F32, &[1])),
        ];
        let entry = ("key", "\"value\"");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tensors");
        write_tensors(&path, tensors.clone(), &[entry]).unwrap();
        let metadata = [(entry.0.to_owned(), entry.1.to_owned())].into();
        assert_eq!(fs_err::read(&path).unwrap(), safetensors::serialize(tensors, Some(metadata)).unwrap());
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_saved_weights_as_they_may_read_other_files() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| fs_err::metadata(folder.path().join(name)).unwrap().permissions().mode();
        fs_err::write(folder.path().join("other"), []).unwrap();
        let tensors = vec![("a".to_owned(), Tensor::new(1f32, &Device::Cpu).unwrap())];
        save_tensors(tensors, &folder.path().join("weights")).unwrap();
        assert_eq!(mode("weights"), mode("other"));
    }
}
