//! Sources of weights: which files they are, and how these are opened.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, quantized::GgmlDType};
use prospect_core::{
    files::{fingerprint, hash_file},
    not_fetched::NotFetched,
};
use serde::{Deserialize, Serialize};

use crate::{
    Architecture, ModelError, PathResolver,
    adapter::{AdaptedSource, AdapterConfig, is_adapter},
    recorded::check_recorded,
    template::additional_templates,
    weights::{GgufFile, RandomWeights, SafetensorsFiles, ScaleScheme, TensorSource},
};

/// Source of the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightsSource {
    /// Folder with `config.json` and safetensors.
    Folder(PathBuf),
    /// One safetensors file, with `config.json` in its folder.
    Safetensors(PathBuf),
    /// GGUF file; the first one if it is split.
    Gguf(PathBuf),
    /// `hf://` address that is not on this machine. Such models can be planned, not loaded.
    NotFetched(String),
    /// Random weights of an architecture, drawn from a seed.
    Random(Box<Architecture>, u64),
    /// Folder with a LoRA adapter, to be merged into its base model.
    Adapter {
        /// Folder of the adapter.
        folder: PathBuf,
        /// Weights of the base model.
        base: Box<WeightsSource>,
    },
}

/// Element type and place of weights after reading.
#[derive(Debug, Clone)]
pub(crate) struct Storage {
    pub(crate) dtype: DType,
    pub(crate) device: Device,
    /// Keeps the matrices of linear layers in the blocks of the GGUF file.
    pub(crate) keep_blocks: bool,
}

/// Scheme of addresses on the Hugging Face Hub.
pub(crate) const HUB: &str = "hf://";

/// Longest chain of adapters trained on merged adapters.
const MAX_ADAPTERS: usize = 4;

impl WeightsSource {
    /// Classifies a local path, which need not exist. The base model of an adapter is found with
    /// `locate`.
    pub(crate) fn from_path(path: PathBuf, locate: &PathResolver<'_>) -> Result<Self, ModelError> {
        Self::from_path_within(path, locate, MAX_ADAPTERS)
    }

    fn from_path_within(
        path: PathBuf,
        locate: &PathResolver<'_>,
        adapters: usize,
    ) -> Result<Self, ModelError> {
        if let Some(address) = path.to_str().filter(|path| path.starts_with(HUB)) {
            return Ok(Self::NotFetched(address.to_owned()));
        }
        if path.is_dir() {
            if !is_adapter(&path) {
                return Ok(Self::Folder(path));
            }
            let base = find_base(&path, locate)?;
            if adapters == 0 {
                let chain = format!("{}: adapters on more than {MAX_ADAPTERS} adapters", path.display());
                return Err(ModelError::Recipe(format!("`weights`: {chain}; is one its own base model?")));
            }
            let base = Box::new(Self::from_path_within(base, locate, adapters - 1)?);
            return Ok(Self::Adapter { folder: path, base });
        }
        if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("safetensors")) {
            // A shard stands for its checkpoint.
            let is_shard = path.file_stem().is_some_and(|name| name.to_string_lossy().contains("-of-"));
            let folder = path.parent().filter(|folder| folder.join("model.safetensors.index.json").exists());
            return Ok(match folder {
                Some(folder) if is_shard => Self::Folder(folder.to_owned()),
                _ => Self::Safetensors(path),
            });
        }
        Ok(Self::Gguf(path))
    }

    /// Returns the folder of the files beside the weights, such as `config.json`.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(folder) => Some(folder),
            Self::Safetensors(path) => path.parent(),
            _ => None,
        }
    }

    /// Returns false for an `hf://` address that is not on this machine, also as a base model.
    pub(crate) fn is_fetched(&self) -> bool {
        match self {
            Self::NotFetched(_) => false,
            Self::Adapter { base, .. } => base.is_fetched(),
            _ => true,
        }
    }

    /// Returns whether the weights, or those of the base model, come from a GGUF file.
    pub(crate) fn is_gguf(&self) -> bool {
        match self {
            Self::Gguf(_) => true,
            Self::NotFetched(address) => address.to_ascii_lowercase().ends_with(".gguf"),
            Self::Adapter { base, .. } => base.is_gguf(),
            _ => false,
        }
    }

    /// Reads the architecture without loading the weights. That of a published model is known.
    pub(crate) fn architecture(&self) -> Result<Architecture, ModelError> {
        match self {
            Self::NotFetched(address) => {
                let repository = address.strip_prefix(HUB).unwrap_or(address);
                let repository = repository.split('@').next().unwrap_or(repository);
                let known = Architecture::published(repository);
                known.ok_or_else(|| NotFetched(address.clone()).into())
            }
            Self::Random(architecture, _) => Ok(Architecture::clone(architecture)),
            Self::Gguf(path) => GgufFile::open(path, DType::F32, Device::Cpu, false)?.architecture(),
            Self::Adapter { base, .. } => base.architecture(),
            Self::Folder(_) | Self::Safetensors(_) => {
                let config = self.folder().unwrap_or(Path::new("")).join("config.json");
                if !config.exists() {
                    return Err(ModelError::Weights(format!(
                        "{}: the file is missing; it comes with the weights and says how they are used, so copy the \
                         whole folder of the model",
                        config.display()
                    )));
                }
                check_recorded(self.folder().unwrap_or(Path::new("")), "config.json")?;
                let config = fs_err::read_to_string(config)?;
                let architecture = Architecture::from_hugging_face(&config)?;
                // Weights that cannot be read are refused before any of them is.
                ScaleScheme::from_config(&serde_json::from_str(&config).unwrap_or_default())?;
                Ok(architecture)
            }
        }
    }

    /// Opens the weights, and returns the architecture to load them with.
    pub(crate) fn open(&self, storage: Storage) -> Result<(Architecture, Box<dyn TensorSource>), ModelError> {
        let Storage { dtype, device, keep_blocks } = storage.clone();
        Ok(match self {
            Self::NotFetched(address) => return Err(NotFetched(address.clone()).into()),
            Self::Random(architecture, seed) => {
                let weights = RandomWeights::new(architecture, *seed, dtype, device);
                (Architecture::clone(architecture), Box::new(weights))
            }
            Self::Gguf(path) => {
                let mut gguf = GgufFile::open(path, dtype, device, keep_blocks)?;
                (gguf.architecture()?, Box::new(gguf))
            }
            Self::Folder(folder) => {
                let architecture = self.architecture()?;
                let mut files = SafetensorsFiles::in_folder(folder, dtype, device)?;
                (files.fit(architecture)?, Box::new(files))
            }
            Self::Safetensors(path) => {
                let architecture = self.architecture()?;
                let mut files = SafetensorsFiles::in_file(path, dtype, device)?;
                (files.fit(architecture)?, Box::new(files))
            }
            Self::Adapter { folder, base } => {
                let (architecture, source) = base.open(storage)?;
                // Merged weights have no blocks in the file; Q8_0 is close to them.
                let blocks = keep_blocks.then_some(GgmlDType::Q8_0);
                let adapted = AdaptedSource::open(folder, &architecture, source, blocks)?;
                (architecture, Box::new(adapted))
            }
        })
    }

    /// Returns a hash of the files' contents; of the address if they are not fetched.
    pub(crate) fn fingerprints(&self) -> Result<Vec<String>, ModelError> {
        let of_files = |folder: &Path, endings: &[&str]| -> Result<Vec<String>, ModelError> {
            let mut files: Vec<_> = fs_err::read_dir(folder)?
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<_, _>>()?;
            files.retain(|path| {
                path.extension().is_some_and(|end| endings.iter().any(|ending| end == *ending))
            });
            files.extend(additional_templates(folder)?);
            files.sort_unstable();
            files.iter().map(|file| Ok(hash_file(file)?)).collect()
        };
        match self {
            Self::NotFetched(address) => Ok(vec![fingerprint(address)?]),
            Self::Random(architecture, seed) => Ok(vec![fingerprint(&(architecture, seed))?]),
            Self::Gguf(path) => GgufFile::parts(path).iter().map(|part| Ok(hash_file(part)?)).collect(),
            Self::Folder(folder) => {
                let mut parts = of_files(folder, &["safetensors", "json", "jinja"])?;
                parts.extend(scales_mark(folder)?);
                Ok(parts)
            }
            Self::Safetensors(path) => {
                let folder = self.folder().unwrap_or(Path::new(""));
                let mut parts = of_files(folder, &["json", "jinja"])?;
                parts.push(hash_file(path)?);
                parts.extend(scales_mark(folder)?);
                Ok(parts)
            }
            Self::Adapter { folder, base } => {
                let mut parts = base.fingerprints()?;
                parts.extend(of_files(folder, &["safetensors", "json", "jinja"])?);
                Ok(parts)
            }
        }
    }
}

/// Returns a mark of quantised checkpoints, so that log-probs which earlier versions computed
/// without their scales are not reused.
fn scales_mark(folder: &Path) -> Result<Option<String>, ModelError> {
    let config = fs_err::read_to_string(folder.join("config.json"))?;
    Ok(config.contains("quantization_config").then(|| "scaled".to_owned()))
}

/// Returns the path of the base model of the adapter in `folder`.
fn find_base(folder: &Path, locate: &PathResolver<'_>) -> Result<PathBuf, ModelError> {
    let config = AdapterConfig::open(folder)?;
    let base = config.base_model_name_or_path.unwrap_or_default();
    let explain = |why: &str| {
        ModelError::Recipe(format!(
            "`weights`: {folder} is a LoRA adapter of `{base}`, {why}; set `base_model_name_or_path` in its \
             adapter_config.json to the folder of the base model, or merge the adapter first: python -c \"import peft; \
             peft.AutoPeftModelForCausalLM.from_pretrained('{folder}').merge_and_unload().save_pretrained('{folder}-merged')\"",
            folder = folder.display()
        ))
    };
    if base.is_empty() {
        return Err(explain("whose base model is not named"));
    }
    let beside = folder.join(&base);
    if let Ok(path) = locate(&base)
        && path.exists()
    {
        return Ok(path);
    }
    if beside.exists() {
        return Ok(beside);
    }
    let is_repository = base.split('/').count() == 2 && !base.starts_with(['.', '/']);
    let address = match config.revision.filter(|revision| !revision.is_empty()) {
        _ if base.starts_with("hf://") => base.clone(),
        revision if is_repository => format!("hf://{base}@{}", revision.as_deref().unwrap_or("main")),
        _ => return Err(explain("which is not a folder here")),
    };
    locate_or_name(&address, locate).map_err(|error| explain(&format!("which cannot be fetched: {error}")))
}

/// Locates an address. An address that is not fetched stands for itself.
pub(crate) fn locate_or_name(
    address: &str,
    locate: &PathResolver<'_>,
) -> Result<PathBuf, Box<dyn std::error::Error + Send + Sync>> {
    match locate(address) {
        Err(error) if NotFetched::find(&*error).is_some() => Ok(address.into()),
        located => located,
    }
}
