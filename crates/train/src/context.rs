//! Inputs of a training run.

use prospect_dist::{Collective, ZeroStage};
use prospect_model::{Activations, Model, Train};

use crate::{Checkpoints, Encoder, Settings, TrainingSet};

/// Everything a training run needs, except its cache and observer.
pub struct TrainContext<'a> {
    /// Model at the start of the stage. It is also the reference.
    pub model: &'a Model,
    /// Trained parameters: all, or an adapter.
    pub train: Train,
    /// Activation policy of forward passes: keep, recompute, or a memory budget.
    pub activations: Activations,
    /// Training settings.
    pub settings: &'a Settings,
    /// Training data.
    pub examples: &'a TrainingSet,
    /// Encoder for KTO's mismatched completions.
    pub encoder: &'a Encoder<'a>,
    /// Seed of the adapter and of the data order.
    pub seed: u64,
    /// Checkpoints of the run; `None` writes none.
    pub checkpoints: Option<&'a Checkpoints>,
    /// State of full training that is sharded over the ranks. Adapters are too small to shard.
    pub zero: Option<ZeroStage>,
    /// Process group. Each rank runs a part of every global batch.
    pub group: &'a dyn Collective,
}

impl<'a> TrainContext<'a> {
    /// Takes the copy of the trained weights that a moving reference needs from the memory budget
    /// of activations.
    pub(crate) fn with_room_for_reference(&self) -> Self {
        let trained = match self.train {
            Train::Full => self.model.decoder.frozen_bytes() as u64,
            // The adapter is small next to the budget of a step.
            Train::Lora(_) => 0,
        };
        let activations = match self.activations {
            Activations::Within(bytes) if self.settings.sync.is_some() => {
                Activations::Within(bytes.saturating_sub(trained))
            }
            other => other,
        };
        Self { activations, ..*self }
    }

    /// Returns the group over which training state is sharded, if it is.
    pub(crate) fn state_shards(&self) -> Option<&'a dyn Collective> {
        let sharded = self.zero.is_some() && self.train == Train::Full && self.group.world_size() > 1;
        sharded.then_some(self.group)
    }
}
