//! LoRA adapters of `peft` as part of the weights that a run starts from: merged while the base
//! model is loaded.

use std::{collections::BTreeMap, path::Path};

use candle_core::{DType, Device, Tensor, quantized::GgmlDType};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    Architecture, Decoder, ModelError,
    parameters::WeightTensor,
    recorded::check_recorded,
    weights::{LinearWeight, QuantisedMatrix, TensorSource},
};

/// Names of PEFT's files.
pub(crate) const CONFIG: &str = "adapter_config.json";
pub(crate) const WEIGHTS: &str = "adapter_model.safetensors";

/// Returns whether `folder` holds an adapter and no model.
pub(crate) fn is_adapter(folder: &Path) -> bool {
    let models = ["model.safetensors", "model.safetensors.index.json"];
    folder.join(CONFIG).exists() && !models.iter().any(|model| folder.join(model).exists())
}

/// Relevant keys of `adapter_config.json`.
#[derive(Debug, Deserialize)]
pub(crate) struct AdapterConfig {
    pub(crate) r: usize,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    /// Address of the base model, as given when the adapter was trained.
    pub(crate) base_model_name_or_path: Option<String>,
    /// Revision of the base model on the Hub.
    pub(crate) revision: Option<String>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl AdapterConfig {
    /// Reads the settings of the adapter in `folder`. Refuses those that LoRA alone does not have.
    pub(crate) fn open(folder: &Path) -> Result<Self, ModelError> {
        check_recorded(folder, CONFIG)?;
        let path = folder.join(CONFIG);
        let fail = |message: String| ModelError::Weights(format!("{}: {message}", path.display()));
        let config: Self =
            serde_json::from_slice(&fs_err::read(&path)?).map_err(|error| fail(error.to_string()))?;
        match config.unsupported() {
            Some(what) => Err(fail(format!(
                "{what} is not supported; merge the adapter into its base model with peft \
                 (`merge_and_unload()`, then `save_pretrained(FOLDER)`) and set `weights:` to that folder"
            ))),
            None => Ok(config),
        }
    }

    /// Returns the first setting that changes what the adapter computes and is not supported.
    fn unsupported(&self) -> Option<String> {
        let kind = self.other.get("peft_type").and_then(Value::as_str);
        if let Some(kind) = kind.filter(|kind| *kind != "LORA") {
            return Some(format!("peft_type `{kind}`"));
        }
        let is_set = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Array(items) => !items.is_empty(),
            Value::Object(items) => !items.is_empty(),
            Value::String(text) => text != "none",
            _ => true,
        };
        let keys = [
            "use_dora",
            "fan_in_fan_out",
            "bias",
            "modules_to_save",
            "alpha_pattern",
            "layer_replication",
            "lora_bias",
            "trainable_token_indices",
            "target_parameters",
            "use_qalora",
            "alora_invocation_tokens",
        ];
        let found = keys.into_iter().find(|key| self.other.get(*key).is_some_and(is_set));
        found.map(|key| format!("`{key}`"))
    }

    /// Returns the number whose ratio to the rank is the factor of B·A.
    pub(crate) fn alpha(&self) -> f64 {
        if self.use_rslora { self.lora_alpha * (self.r as f64).sqrt() } else { self.lora_alpha }
    }

    /// Returns the factor of B·A for a matrix whose adapter has rank `rank`.
    fn scale(&self, rank: usize) -> f64 {
        self.lora_alpha / if self.use_rslora { (rank as f64).sqrt() } else { rank as f64 }
    }
}

/// Low-rank update of a matrix: scale·b·a.
struct Update {
    a: Tensor,
    b: Tensor,
    scale: f64,
}

/// Weights of another source with the updates of an adapter added.
pub(crate) struct AdaptedSource {
    source: Box<dyn TensorSource>,
    /// Updates by the names of the matrices.
    updates: BTreeMap<String, Update>,
    /// Block type for updated matrices; None keeps them dense.
    blocks: Option<GgmlDType>,
}

impl AdaptedSource {
    /// Opens the adapter in `folder`. Fails if it has weights for anything but the linear layers of
    /// `architecture`'s blocks.
    pub(crate) fn open(
        folder: &Path,
        architecture: &Architecture,
        source: Box<dyn TensorSource>,
        blocks: Option<GgmlDType>,
    ) -> Result<Self, ModelError> {
        let config = AdapterConfig::open(folder)?;
        let path = folder.join(WEIGHTS);
        let fail = |message: String| ModelError::Weights(format!("{}: {message}", path.display()));
        if !path.exists() {
            return Err(fail(
                "the file is missing; an adapter saved as adapter_model.bin is not read".to_owned(),
            ));
        }
        check_recorded(folder, WEIGHTS)?;
        let mut tensors: BTreeMap<String, Tensor> = candle_core::safetensors::load(&path, &Device::Cpu)
            .map_err(|error| fail(error.to_string()))?
            .into_iter()
            .collect();
        let mut updates = BTreeMap::new();
        for (name, [output, input]) in Matrices::record(architecture)? {
            let module = name.strip_suffix(".weight").unwrap_or(&name);
            let mut take = |part: &str| {
                let part = tensors.remove(&format!("base_model.model.{module}.{part}.weight"))?;
                Some(part.to_dtype(DType::F32))
            };
            let (a, b) = match (take("lora_A"), take("lora_B")) {
                (Some(a), Some(b)) => (a?, b?),
                (None, None) => continue,
                _ => return Err(fail(format!("`{module}` has only one of its two factors"))),
            };
            let rank = a.dims().first().copied().unwrap_or(0);
            if rank == 0 || a.dims() != [rank, input] || b.dims() != [output, rank] {
                return Err(fail(format!(
                    "`{module}` has factors of shape {:?} and {:?} for a matrix of {output} × {input}; is this \
                     the adapter's base model?",
                    b.dims(),
                    a.dims()
                )));
            }
            updates.insert(name, Update { a, b, scale: config.scale(rank) });
        }
        if let Some(name) = tensors.keys().next() {
            return Err(fail(format!(
                "`{name}` belongs to no linear layer of the base model's blocks, {} of {} tensors in all; is \
                 this the adapter's base model? If so, merge the adapter with peft first",
                tensors.len(),
                tensors.len() + 2 * updates.len()
            )));
        }
        Ok(Self { source, updates, blocks })
    }
}

impl TensorSource for AdaptedSource {
    fn get(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let weight = self.source.get(name, shape)?;
        let Some(Update { a, b, scale }) = self.updates.get(name) else { return Ok(weight) };
        let update = (b.matmul(a)? * *scale)?.to_device(weight.device())?;
        Ok((weight.to_dtype(DType::F32)? + update)?.to_dtype(weight.dtype())?)
    }

    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<LinearWeight, ModelError> {
        if !self.updates.contains_key(name) {
            return self.source.matrix(name, shape);
        }
        let merged = self.get(name, &shape)?;
        Ok(match self.blocks {
            Some(kind) => LinearWeight::Quantised(QuantisedMatrix::new(&merged, kind)?),
            None => LinearWeight::Plain(WeightTensor::Frozen(merged)),
        })
    }
}

/// Source that records the matrices of linear layers.
#[derive(Default)]
struct Matrices(Vec<(String, [usize; 2])>);

impl Matrices {
    /// Returns names and shapes of the matrices of an architecture.
    fn record(architecture: &Architecture) -> Result<Vec<(String, [usize; 2])>, ModelError> {
        let mut matrices = Self::default();
        Decoder::frozen(architecture.clone(), &mut matrices)?;
        Ok(matrices.0)
    }
}

impl TensorSource for Matrices {
    fn get(&mut self, _name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        // A broadcast scalar, so that nothing is allocated.
        Ok(Tensor::zeros((), DType::F32, &Device::Cpu)?.broadcast_as(shape)?)
    }

    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<LinearWeight, ModelError> {
        self.0.push((name.to_owned(), shape));
        Ok(LinearWeight::Plain(WeightTensor::Frozen(self.get(name, &shape)?)))
    }
}
