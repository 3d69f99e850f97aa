//! Hugging Face folders: `model.safetensors`, or shards with an index.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor, safetensors::MmapedSafetensors};
use serde::Deserialize;

use super::{Weights, check_shape};
use crate::ModelError;

/// The tensors of a folder.
pub(crate) struct Safetensors {
    folder: PathBuf,
    tensors: MmapedSafetensors,
    dtype: DType,
    device: Device,
}

/// `model.safetensors.index.json`: which shard holds a tensor.
#[derive(Deserialize)]
struct Index {
    weight_map: HashMap<String, String>,
}

impl Safetensors {
    pub(crate) fn open(folder: &Path, dtype: DType, device: Device) -> Result<Self, ModelError> {
        let index = folder.join("model.safetensors.index.json");
        let files: Vec<PathBuf> = if index.exists() {
            let index: Index = serde_json::from_slice(&fs_err::read(&index)?)
                .map_err(|error| ModelError::Weights(format!("{}: {error}", index.display())))?;
            let shards: HashSet<_> = index.weight_map.into_values().collect();
            let mut shards: Vec<_> = shards.into_iter().map(|shard| folder.join(shard)).collect();
            shards.sort_unstable();
            shards
        } else {
            vec![folder.join("model.safetensors")]
        };
        for file in &files {
            // Opening names the file where candle's own error would not.
            fs_err::File::open(file)?;
        }
        // SAFETY: the files are mapped read-only; a checkpoint that another process rewrites while it is loaded is
        // broken however it is read.
        #[expect(unsafe_code, reason = "memory mapping")]
        let tensors = unsafe { MmapedSafetensors::multi(&files) }
            .map_err(|error| ModelError::Weights(format!("{}: {error}", folder.display())))?;
        Ok(Self { folder: folder.to_owned(), tensors, dtype, device })
    }
}

impl Weights for Safetensors {
    fn get(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let folder = self.folder.display().to_string();
        let tensor = self
            .tensors
            .load(name, &self.device)
            .map_err(|error| ModelError::Weights(format!("{folder}: tensor `{name}`: {error}")))?;
        check_shape(&folder, name, tensor.dims(), shape)?;
        Ok(tensor.to_dtype(self.dtype)?)
    }
}
