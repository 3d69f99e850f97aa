//! Hugging Face checkpoints in safetensors: one file, or shards with an index.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use candle_core::{
    DType, Device, Tensor,
    safetensors::{Load, MmapedSafetensors},
};
use safetensors::{Dtype, tensor::TensorView};
use serde::Deserialize;

use super::{
    TensorSource, check_shape,
    scales::{ScaleScheme, decoder},
};
use crate::{Architecture, ModelError, recorded::check_recorded};

/// Memory-mapped safetensors of a checkpoint.
pub(crate) struct SafetensorsFiles {
    /// Folder or file, for messages.
    path: PathBuf,
    tensors: MmapedSafetensors,
    scales: ScaleScheme,
    /// Names of embedding and head, whose rows beyond the vocabulary are padding.
    padded: Vec<String>,
    dtype: DType,
    device: Device,
}

/// Contents of `model.safetensors.index.json`.
#[derive(Deserialize)]
struct ShardIndex {
    /// Shard file of each tensor.
    weight_map: HashMap<String, String>,
}

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

impl SafetensorsFiles {
    /// Opens the checkpoint of a folder, with `model.safetensors` rather than an index if both are
    /// there.
    pub(crate) fn in_folder(folder: &Path, dtype: DType, device: Device) -> Result<Self, ModelError> {
        Self::open(folder, &files(folder)?, folder, dtype, device)
    }

    /// Opens one file, whose `config.json` is in the same folder.
    pub(crate) fn in_file(file: &Path, dtype: DType, device: Device) -> Result<Self, ModelError> {
        let folder = file.parent().unwrap_or(Path::new(""));
        Self::open(file, &[file.to_owned()], folder, dtype, device)
    }

    fn open(
        path: &Path,
        files: &[PathBuf],
        folder: &Path,
        dtype: DType,
        device: Device,
    ) -> Result<Self, ModelError> {
        let fail =
            |error: &dyn std::fmt::Display| ModelError::Weights(format!("{}: {error}", path.display()));
        for file in files {
            // The error of `fs_err` names the file; candle's does not.
            fs_err::File::open(file)?;
            if let Some(name) = file.file_name().and_then(|name| name.to_str()) {
                check_recorded(folder, name)?;
            }
        }
        // SAFETY: the files are mapped read-only. A checkpoint that another process rewrites during
        // the load is corrupt however it is read.
        #[expect(unsafe_code, reason = "memory mapping")]
        let tensors = unsafe { MmapedSafetensors::multi(files) }.map_err(|error| fail(&error))?;
        let config: serde_json::Value = serde_json::from_slice(&fs_err::read(folder.join("config.json"))?)
            .map_err(|error| fail(&error))?;
        let scales = ScaleScheme::from_config(&config)?;
        Ok(Self { path: path.to_owned(), tensors, scales, padded: Vec::new(), dtype, device })
    }

    fn fail(&self, message: &str) -> ModelError {
        ModelError::Weights(format!("{}: {message}", self.path.display()))
    }

    /// Returns a tensor under its name in text-only checkpoints or in those with an image encoder.
    fn find(&self, name: &str) -> Option<TensorView<'_>> {
        let inner = name.strip_prefix("model.").map(|rest| format!("model.language_model.{rest}"));
        let names = [Some(name.to_owned()), Some(format!("language_model.{name}")), inner];
        names.into_iter().flatten().find_map(|name| self.tensors.get(&name).ok())
    }

    /// Compares embedding and head with `architecture`, and returns the architecture with the
    /// vocabulary to load:
    ///
    /// * If they have more rows than `vocab_size`, the rows beyond it are padding and not read.
    /// * If they have one row fewer, the last token has no row, and the vocabulary is one smaller.
    pub(crate) fn fit(&mut self, mut architecture: Architecture) -> Result<Architecture, ModelError> {
        let names = architecture.names();
        let [embedding, head] = [names.embedding, names.head].map(|name| format!("{name}.weight"));
        let rows = |name: &str| self.find(name).and_then(|view| view.shape().first().copied());
        let of_head = rows(&head);
        if !architecture.tied && of_head.is_none() && rows(&embedding).is_some() {
            return Err(self.fail(&format!(
                "`{head}` is missing, and config.json does not tie the head to the embedding; set \
                 `tie_word_embeddings: true` there if the model shares them"
            )));
        }
        if let (true, Some(embedding), Some(found)) =
            (architecture.tied, self.find(&embedding), self.find(&head))
            && !same_values(&embedding, &found)?
        {
            return Err(self.fail(&format!(
                "config.json ties the head to the embedding, but `{head}` has other values; set \
                 `tie_word_embeddings: false` there to use it"
            )));
        }
        let found = [rows(&embedding), of_head.filter(|_| !architecture.tied)];
        let wanted = architecture.vocabulary;
        if let Some(least) = found.into_iter().flatten().min() {
            if least + 1 == wanted {
                tracing::warn!(
                    "{}: vocab_size is {wanted}, but the embedding has {least} rows: the last token cannot be used",
                    self.path.display()
                );
                architecture.vocabulary = least;
            } else if least > wanted {
                tracing::info!(
                    "{}: the {} rows beyond vocab_size are padding and not used",
                    self.path.display(),
                    least - wanted
                );
            }
        }
        self.padded = vec![embedding, head];
        Ok(architecture)
    }

    /// Returns the values of 8-bit numbers with scales.
    fn scaled(&self, name: &str, numbers: &TensorView<'_>) -> Result<Tensor, ModelError> {
        let fail = |message: &str| self.fail(&format!("tensor `{name}` {message}"));
        let names = self.scales.names(name);
        let scales = names.iter().find_map(|name| self.find(name)).ok_or_else(|| {
            fail(&format!(
                "has type {:?}, and there are no scales for it (`{}`); use the model's unquantised weights",
                numbers.dtype(),
                names.join("` or `")
            ))
        })?;
        let zero_points = self.find(&ScaleScheme::zero_point(name));
        let values =
            self.scales.values(numbers, &scales, zero_points.as_ref()).map_err(|message| fail(&message))?;
        Ok(Tensor::from_vec(values, numbers.shape(), &Device::Cpu)?)
    }

    /// Explains why a tensor is missing.
    fn missing(&self, name: &str) -> ModelError {
        let module = name.strip_suffix("weight").unwrap_or(name);
        let packed =
            ["qweight", "weight_packed", "weight_quantized"].map(|ending| format!("{module}{ending}"));
        match packed.iter().find(|packed| self.find(packed).is_some()) {
            Some(packed) => self.fail(&format!(
                "there is `{packed}` in place of `{name}`: these weights are quantised, and config.json has no \
                 `quantization_config` that says how; use the model's unquantised weights"
            )),
            None => self.fail(&format!(
                "tensor `{name}` is missing; is the checkpoint complete, and is config.json that of this model?"
            )),
        }
    }
}

/// Returns the files of a folder's checkpoint.
fn files(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let (single, index) = (folder.join(SINGLE), folder.join(INDEX));
    if single.exists() {
        return Ok(vec![single]);
    }
    if !index.exists() {
        return Err(ModelError::Weights(format!("{}: {}", folder.display(), without_weights(folder)?)));
    }
    let found: ShardIndex = serde_json::from_slice(&fs_err::read(&index)?)
        .map_err(|error| ModelError::Weights(format!("{}: {error}", index.display())))?;
    let shards: BTreeSet<String> = found.weight_map.into_values().collect();
    let missing: Vec<&str> =
        shards.iter().map(String::as_str).filter(|shard| !folder.join(shard).exists()).collect();
    if !missing.is_empty() {
        return Err(ModelError::Weights(format!(
            "{}: {} of {} shards are missing: `{}`; copy or download the whole folder again",
            index.display(),
            missing.len(),
            shards.len(),
            missing.join("`, `")
        )));
    }
    Ok(shards.into_iter().map(|shard| folder.join(shard)).collect())
}

/// Says what a folder without `model.safetensors` has instead, and what to do.
fn without_weights(folder: &Path) -> Result<String, ModelError> {
    let mut names = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    let first = |endings: &[&str]| names.iter().find(|name| endings.iter().any(|end| name.ends_with(end)));
    let neither = format!("has neither `{SINGLE}` nor `{INDEX}`");
    Ok(if let Some(name) = first(&[".safetensors", ".gguf"]) {
        format!("{neither}; to use `{name}`, set `weights:` to its path")
    } else if let Some(name) = first(&[".bin", ".pt", ".pth"]) {
        format!(
            "{neither}, and PyTorch files such as `{name}` are not read; convert them: python -c \"import transformers; \
             transformers.AutoModelForCausalLM.from_pretrained('{0}', dtype='auto').save_pretrained('{0}')\"",
            folder.display()
        )
    } else {
        neither
    })
}

/// Returns whether two tensors are equal; compares values if the types differ.
fn same_values(one: &TensorView<'_>, other: &TensorView<'_>) -> Result<bool, ModelError> {
    if one.dtype() == other.dtype() {
        return Ok(one.shape() == other.shape() && one.data() == other.data());
    }
    if one.shape() != other.shape() {
        return Ok(false);
    }
    let load = |view: &TensorView<'_>| view.load(&Device::Cpu)?.to_dtype(DType::F32);
    let difference = (load(one)? - load(other)?)?.abs()?.max_all()?.to_scalar::<f32>()?;
    Ok(difference == 0.0)
}

/// Returns the first `rows` rows of a matrix that has more.
fn first_rows<'a>(view: TensorView<'a>, rows: usize) -> Result<TensorView<'a>, ModelError> {
    let (dtype, shape) = (view.dtype(), view.shape().to_vec());
    let [all, columns] = shape[..] else { return Ok(view) };
    if all <= rows {
        return Ok(view);
    }
    // The data outlives the view, which borrows the mapped file.
    let data: &'a [u8] = view.data();
    let bytes = data.len() / all * rows;
    TensorView::new(dtype, vec![rows, columns], &data[..bytes])
        .map_err(|error| ModelError::Weights(error.to_string()))
}

impl TensorSource for SafetensorsFiles {
    fn get(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let mut view = self.find(name).ok_or_else(|| self.missing(name))?;
        if let (true, Some(rows)) = (self.padded.iter().any(|padded| padded == name), shape.first()) {
            view = first_rows(view, *rows)?;
        }
        let tensor = match view.dtype() {
            dtype if decoder(dtype).is_some() => self.scaled(name, &view)?,
            Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64 => {
                if let Some(scales) = self.scales.names(name).iter().find(|name| self.find(name).is_some()) {
                    return Err(self.fail(&format!(
                        "tensor `{name}` has type {:?}, yet there is `{scales}`: is it scaled already? Use the \
                         model's unquantised weights",
                        view.dtype()
                    )));
                }
                view.load(&self.device)?
            }
            other => {
                return Err(self.fail(&format!(
                    "tensor `{name}` has type {other:?}, which is not that of weights; use the model's \
                     unquantised weights"
                )));
            }
        };
        check_shape(&self.path.display().to_string(), name, tensor.dims(), shape)?;
        Ok(tensor.to_dtype(self.dtype)?.to_device(&self.device)?)
    }
}
