//! Hugging Face folders with `model.safetensors`, or with shards and an index.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor, safetensors::MmapedSafetensors};
use serde::Deserialize;

use super::{TensorSource, check_shape};
use crate::{ModelError, recorded::check_recorded};

/// Memory-mapped safetensors files of a folder.
pub(crate) struct SafetensorsFolder {
    folder: PathBuf,
    tensors: MmapedSafetensors,
    dtype: DType,
    device: Device,
}

/// Contents of `model.safetensors.index.json`.
#[derive(Deserialize)]
struct ShardIndex {
    /// Shard file of each tensor.
    weight_map: HashMap<String, String>,
}

impl SafetensorsFolder {
    pub(crate) fn open(folder: &Path, dtype: DType, device: Device) -> Result<Self, ModelError> {
        let index = folder.join("model.safetensors.index.json");
        let names: Vec<String> = if index.exists() {
            let index: ShardIndex = serde_json::from_slice(&fs_err::read(&index)?)
                .map_err(|error| ModelError::Weights(format!("{}: {error}", index.display())))?;
            let shards: HashSet<_> = index.weight_map.into_values().collect();
            let mut shards: Vec<_> = shards.into_iter().collect();
            shards.sort_unstable();
            shards
        } else {
            vec!["model.safetensors".to_owned()]
        };
        let files: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
        for (name, file) in names.iter().zip(&files) {
            // The error of `fs_err` names the file; candle's does not.
            fs_err::File::open(file)?;
            check_recorded(folder, name)?;
        }
        // SAFETY: the files are mapped read-only. A checkpoint that another process rewrites during
        // the load is corrupt however it is read.
        #[expect(unsafe_code, reason = "memory mapping")]
        let tensors = unsafe { MmapedSafetensors::multi(&files) }
            .map_err(|error| ModelError::Weights(format!("{}: {error}", folder.display())))?;
        Ok(Self { folder: folder.to_owned(), tensors, dtype, device })
    }
}

impl TensorSource for SafetensorsFolder {
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
