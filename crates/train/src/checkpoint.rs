//! A run's state between two steps: a run that was killed goes on from it as if it had never stopped.
//!
//! A checkpoint is one safetensors file, `step-00000120.safetensors`: the trainable weights by name, AdamW's moments as
//! `first.NAME` and `second.NAME`, and in the metadata what else the next step depends on. The order of the data and
//! every draw are functions of seed and step, so there is no generator to keep.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use candle_core::{Device, Tensor};
use prospect_core::{files::write_whole_at, progress::say};
use prospect_model::Parameters;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use crate::{ObjectiveState, TrainError, optimizer::Optimizer};

const METADATA: &str = "prospect";

/// Where a run keeps its state, and how often it writes it.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    folder: PathBuf,
    every: u64,
    keep: usize,
    run: String,
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainState {
    /// Optimizer steps.
    pub step: u64,
    /// Tokens that passed through the model in training steps.
    pub tokens: u64,
    /// Seconds of work.
    pub seconds: f64,
    /// What the objective carries from step to step.
    pub(crate) objective: ObjectiveState,
}

/// The metadata of a file.
#[derive(Serialize, Deserialize)]
struct Metadata {
    run: String,
    reached: TrainState,
}

impl Checkpoints {
    /// Checkpoints in `folder` every `every` steps, of which the last `keep` stay. `run` names everything that the run
    /// depends on: state of another run is not taken up.
    pub fn new(folder: PathBuf, every: u64, keep: usize, run: String) -> Self {
        Self { folder, every: every.max(1), keep: keep.max(1), run }
    }

    /// Where a killed run goes on from.
    pub fn latest(&self) -> Result<Option<TrainState>, TrainError> {
        Ok(self.newest()?.map(|(_, metadata)| metadata.reached))
    }

    /// Whether state is to be written after `step`.
    pub(crate) fn due(&self, step: u64) -> bool {
        step.is_multiple_of(self.every)
    }

    /// Writes the state after a step, whole, and removes the oldest file beyond the number to keep.
    pub(crate) fn save(
        &self,
        reached: TrainState,
        parameters: &Parameters,
        optimizer: &Optimizer,
    ) -> Result<(), TrainError> {
        let metadata = serde_json::to_string(&Metadata { run: self.run.clone(), reached })
            .map_err(std::io::Error::from)?;
        let mut tensors = optimizer.state(parameters)?;
        let values = parameters.iter().map(|(name, parameter)| (name.to_owned(), parameter.value().clone()));
        tensors.extend(values);
        let path = self.folder.join(format!("step-{:08}.safetensors", reached.step));
        write_whole_at(&path, |aside| {
            safetensors::serialize_to_file(tensors, Some([(METADATA.to_owned(), metadata)].into()), aside)
                .map_err(std::io::Error::other)
        })?;
        let files = self.files()?;
        for old in files.iter().take(files.len().saturating_sub(self.keep)) {
            fs_err::remove_file(old)?;
        }
        Ok(())
    }

    /// Puts the newest state back, if there is any.
    pub(crate) fn restore(
        &self,
        parameters: &Parameters,
        optimizer: &mut Optimizer,
    ) -> Result<Option<TrainState>, TrainError> {
        let Some((path, Metadata { reached, .. })) = self.newest()? else { return Ok(None) };
        let tensors = candle_core::safetensors::load(&path, &Device::Cpu)?;
        for (name, parameter) in parameters.iter() {
            let value = stored(&tensors, name)?;
            parameter.var().set(&value.to_device(parameter.value().device())?)?;
        }
        optimizer.restore(parameters, &tensors, reached.step)?;
        Ok(Some(reached))
    }

    /// Files of state, oldest first.
    fn files(&self) -> Result<Vec<PathBuf>, TrainError> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        let entries = fs_err::read_dir(&self.folder)?.map(|entry| entry.map(|entry| entry.path()));
        let mut files = entries.collect::<Result<Vec<_>, _>>()?;
        files.retain(|path| path.extension().is_some_and(|ending| ending == "safetensors"));
        files.sort_unstable();
        Ok(files)
    }

    /// The newest file that is whole and of this run.
    fn newest(&self) -> Result<Option<(PathBuf, Metadata)>, TrainError> {
        for path in self.files()?.into_iter().rev() {
            match metadata(&path)? {
                Some(metadata) if metadata.run == self.run => return Ok(Some((path, metadata))),
                Some(_) => {}
                None => say(format!("{}: not a whole checkpoint, passed over", path.display())),
            }
        }
        Ok(None)
    }
}

/// What the file says of itself; None if it is damaged.
fn metadata(path: &Path) -> Result<Option<Metadata>, TrainError> {
    let bytes = fs_err::read(path)?;
    // Also checks that the tensors fill the file.
    let (Ok((_, header)), Ok(_)) = (SafeTensors::read_metadata(&bytes), SafeTensors::deserialize(&bytes))
    else {
        return Ok(None);
    };
    let text = header.metadata().as_ref().and_then(|metadata| metadata.get(METADATA));
    Ok(text.and_then(|text| serde_json::from_str(text).ok()))
}

/// A tensor of the file.
pub(crate) fn stored<'a>(
    tensors: &'a HashMap<String, Tensor>,
    name: &str,
) -> candle_core::Result<&'a Tensor> {
    tensors.get(name).ok_or_else(|| candle_core::Error::msg(format!("the checkpoint lacks tensor `{name}`")))
}
