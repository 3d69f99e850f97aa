//! Checkpoints of a run: a killed run resumes from the newest one, bit for bit.
//!
//! A checkpoint is one safetensors file, `step-00000120-HASH.safetensors`. It holds the trainable
//! weights by name, the optimizer's moments (AdamW's `first.NAME` and `second.NAME`, RMSprop's
//! `square.NAME`), the f32 master weights of half-precision parameters as `master.NAME`, a
//! reference that has moved as `reference.NAME`, and a [`TrainState`] in the metadata. Tensors are
//! whole even if ranks shard them, so a run may resume on another number of ranks. Data order and
//! random draws are functions of seed and step, so no generator state is kept.
//!
//! HASH is the start of the file's BLAKE3 hash and checked before the file is used.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{Device, Tensor};
use prospect_core::checksums::{ChecksumError, check_named, write_named};
use prospect_dist::Collective;
use prospect_model::{Parameters, write_tensors};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use crate::{
    ObjectiveState, TrainError,
    optimizer::{Optimizer, state_tensor},
    reference::SyncedReference,
};

/// Key of our entry in the metadata of a safetensors file.
const METADATA_KEY: &str = "prospect";

/// Checkpoint folder of a run, with interval and retention.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    folder: PathBuf,
    every: u64,
    keep: usize,
    run: String,
    /// Files that a warning has been printed for.
    reported: Arc<Mutex<BTreeSet<PathBuf>>>,
}

/// Progress of a run: everything the next step depends on, except tensors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainState {
    /// Optimizer steps taken.
    pub step: u64,
    /// Tokens processed in training steps.
    pub tokens: u64,
    /// Seconds of work.
    pub seconds: f64,
    /// State of the objective.
    pub(crate) objective: ObjectiveState,
}

/// Tensors that a checkpoint restores.
pub(crate) struct Restored<'a, 'b> {
    pub(crate) parameters: &'a Parameters,
    pub(crate) optimizer: &'a mut Optimizer<'b>,
    pub(crate) synced: Option<&'a mut SyncedReference>,
}

/// Our metadata in a checkpoint file.
#[derive(Serialize, Deserialize)]
struct CheckpointMetadata {
    run: String,
    #[serde(rename = "reached")]
    state: TrainState,
}

impl Checkpoints {
    /// Writes a checkpoint to `folder` every `every` steps and keeps the last `keep`.
    ///
    /// `run` identifies everything the run depends on; checkpoints of other runs are ignored.
    pub fn new(folder: PathBuf, every: u64, keep: usize, run: String) -> Self {
        Self { folder, every: every.max(1), keep: keep.max(1), run, reported: Arc::default() }
    }

    /// Returns the state of the newest intact checkpoint.
    pub fn latest(&self) -> Result<Option<TrainState>, TrainError> {
        Ok(self.newest()?.map(|(_, metadata)| metadata.state))
    }

    /// Returns true if a checkpoint is due after `step`.
    pub(crate) fn is_due(&self, step: u64) -> bool {
        step.is_multiple_of(self.every)
    }

    /// Writes a checkpoint of all `tensors` atomically, then removes the oldest ones beyond `keep`,
    /// and those that the run did not resume from.
    pub(crate) fn save(&self, state: TrainState, tensors: Vec<(String, Tensor)>) -> Result<(), TrainError> {
        let metadata = serde_json::to_string(&CheckpointMetadata { run: self.run.clone(), state })
            .map_err(std::io::Error::from)?;
        let stem = format!("step-{:08}", state.step);
        let path = write_named(&self.folder, &stem, "safetensors", |temporary| {
            write_tensors(temporary, tensors, &[(METADATA_KEY, metadata.as_str())])
        })?;
        // A file of this step or a later one is damaged or of another run.
        let follows = |other: &Path| {
            other != path && other.file_name().is_some_and(|name| *name >= *std::ffi::OsStr::new(&stem))
        };
        let (unused, files): (Vec<_>, Vec<_>) = self.files()?.into_iter().partition(|other| follows(other));
        for old in unused.iter().chain(files.iter().take(files.len().saturating_sub(self.keep))) {
            fs_err::remove_file(old)?;
        }
        Ok(())
    }

    /// Loads weights, optimizer and moved reference from the newest checkpoint, if there is one.
    pub(crate) fn restore(
        &self,
        into: Restored<'_, '_>,
        group: &dyn Collective,
    ) -> Result<Option<TrainState>, TrainError> {
        let Restored { parameters, optimizer, synced } = into;
        let Some((path, CheckpointMetadata { state, .. })) = self.newest()? else { return Ok(None) };
        let tensors = candle_core::safetensors::load(&path, &Device::Cpu)?;
        for (name, parameter) in parameters.iter() {
            parameter.set_whole(state_tensor(&tensors, name)?, group)?;
        }
        optimizer.load_state_dict(parameters, &tensors, state.step)?;
        if let Some(synced) = synced {
            synced.load_state_dict(&tensors, state.step, group)?;
        }
        Ok(Some(state))
    }

    /// Lists checkpoint files, oldest first.
    fn files(&self) -> Result<Vec<PathBuf>, TrainError> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        let entries = fs_err::read_dir(&self.folder)?.map(|entry| entry.map(|entry| entry.path()));
        let mut files = entries.collect::<Result<Vec<_>, _>>()?;
        files.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
        files.sort_unstable();
        Ok(files)
    }

    /// Finds the newest intact checkpoint of this run.
    fn newest(&self) -> Result<Option<(PathBuf, CheckpointMetadata)>, TrainError> {
        for path in self.files()?.into_iter().rev() {
            match check_named(&path) {
                Ok(()) => match read_metadata(&path)? {
                    Some(metadata) if metadata.run == self.run => return Ok(Some((path, metadata))),
                    Some(_) => {}
                    None => {
                        self.report(&path, &format!("{}: a checkpoint of another version", path.display()));
                    }
                },
                Err(ChecksumError::Io(error)) => return Err(error.into()),
                Err(damage) => self.report(&path, &damage.to_string()),
            }
        }
        Ok(None)
    }

    /// Warns about an unusable file, once.
    fn report(&self, path: &Path, problem: &str) {
        if self.reported.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned()) {
            tracing::warn!("{problem}; continuing from the checkpoint before it, or else from the start");
        }
    }
}

/// Reads the metadata of a checkpoint file; `None` if it has none that this version can read.
fn read_metadata(path: &Path) -> Result<Option<CheckpointMetadata>, TrainError> {
    let bytes = fs_err::read(path)?;
    let Ok((_, header)) = SafeTensors::read_metadata(&bytes) else { return Ok(None) };
    let text = header.metadata().as_ref().and_then(|metadata| metadata.get(METADATA_KEY));
    Ok(text.and_then(|text| serde_json::from_str(text).ok()))
}
