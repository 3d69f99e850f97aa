//! Checkpoints and adapters in the formats of `transformers` and `peft`.

use std::{collections::BTreeMap, path::Path};

use candle_core::{
    Tensor,
    safetensors::{load, save},
};
use prospect_core::{
    checksums,
    files::{write_json, write_whole_at},
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
    save_tensors(&tensors.collect(), path)
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
    let tensors: BTreeMap<_, _> = named
        .map(|(name, parameter)| (format!("base_model.model.{name}"), parameter.value().clone()))
        .collect();
    save_tensors(&tensors, &folder.join(ADAPTER_WEIGHTS))?;
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

fn save_tensors(tensors: &BTreeMap<String, Tensor>, path: &Path) -> Result<(), ModelError> {
    let tensors: std::collections::HashMap<_, _> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
    write_whole_at(path, |aside| Ok(save(&tensors, aside)?))
}
