//! A reference that moves with the policy: humanline's synchronisation, and TR-DPO.

use candle_core::Tensor;
use prospect_dist::Collective;
use prospect_model::{Adapter, Decoder, PackedBatch, Parameters, device::retry_with_room};

use super::LogProbGranularity;
use crate::{
    ReferenceSync, TrainError,
    distributed::whole_weights,
    optimizer::{StateDict, state_tensor},
};

/// Prefix of the reference's weights in a checkpoint.
const PREFIX: &str = "reference.";

/// A copy of the policy's trained weights, which moves every few steps (arXiv 2404.09656,
/// equations 4 and 5).
///
/// A move takes place before the update of its step, as in HALOs: with a move at every step, the
/// reference is the policy one step earlier, not the policy itself.
pub(crate) struct SyncedReference {
    sync: ReferenceSync,
    decoder: Decoder,
    /// False until the first move, when the reference is the model at the start of the stage.
    moved: bool,
}

impl SyncedReference {
    /// Starts from `decoder`, a policy that has not been trained.
    pub(crate) fn new(sync: ReferenceSync, decoder: Decoder) -> Self {
        Self { sync, decoder, moved: false }
    }

    /// Returns log-probs of `batch`; None before the first move.
    pub(crate) fn log_probs(
        &self,
        batch: &PackedBatch,
        granularity: LogProbGranularity,
    ) -> Option<Result<Vec<f64>, TrainError>> {
        self.moved.then(|| granularity.log_probs(&self.decoder, batch, Adapter::On))
    }

    /// Moves the reference if it is due after `steps` optimizer steps: α·policy + (1 −
    /// α)·reference, for every trained weight. With an adapter, these are its two factors.
    pub(crate) fn move_if_due(&mut self, policy: &Parameters, steps: u64) -> Result<(), TrainError> {
        let ReferenceSync { every, alpha } = self.sync;
        if !steps.is_multiple_of(every) {
            return Ok(());
        }
        for ((_, policy), (_, reference)) in policy.iter().zip(self.decoder.parameters().iter()) {
            let (policy, start) = (policy.value(), reference.value());
            let value = retry_with_room(policy.device(), || {
                if alpha == 1.0 {
                    return policy.copy();
                }
                let moved = ((in_float(policy)? * alpha)? + (in_float(start)? * (1.0 - alpha))?)?;
                moved.to_dtype(policy.dtype())
            })?;
            reference.var().set(&value)?;
        }
        self.moved = true;
        Ok(())
    }

    /// Returns the weights as `reference.NAME`; none before the first move. All ranks must call it
    /// if the weights are sharded, and only rank 0 gets sharded ones.
    pub(crate) fn state_dict(&self, group: &dyn Collective) -> Result<Vec<(String, Tensor)>, TrainError> {
        if self.moved { whole_weights(self.decoder.parameters(), PREFIX, group) } else { Ok(Vec::new()) }
    }

    /// Restores the weights after `steps` optimizer steps.
    pub(crate) fn load_state_dict(
        &mut self,
        state: &StateDict,
        steps: u64,
        group: &dyn Collective,
    ) -> Result<(), TrainError> {
        self.moved = steps >= self.sync.every;
        if self.moved {
            for (name, parameter) in self.decoder.parameters().iter() {
                parameter.set_whole(state_tensor(state, &format!("{PREFIX}{name}"))?, group)?;
            }
        }
        Ok(())
    }
}

/// Converts half precision to f32, so that a small α is not lost.
fn in_float(value: &Tensor) -> candle_core::Result<Tensor> {
    match value.dtype() {
        candle_core::DType::F64 => Ok(value.clone()),
        _ => value.to_dtype(candle_core::DType::F32),
    }
}
