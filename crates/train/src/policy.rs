//! A policy in training, with its reference and its loss.

use prospect_model::{Adapter, Decoder, PackedBatch};
use prospect_objective::{BatchLoss, LogProb};

use crate::{
    LogProbGranularity, ObjectiveState, ReferenceCache, ReferenceModel, Settings, TrainError,
    batches::Role,
    logprobs::{MicroBatchLogps, sequence_logps},
    loss::LossFunction,
};

/// A policy in training and its reference.
pub struct Policy<'a> {
    /// The policy.
    pub decoder: &'a Decoder,
    /// The reference.
    pub reference: ReferenceModel<'a>,
    /// Name of the reference in the cache.
    pub reference_name: &'a str,
    /// State of the objective.
    pub state: ObjectiveState,
    pub(crate) loss: LossFunction,
}

impl Policy<'_> {
    /// Returns sequence log-probs under policy and reference, without gradient.
    ///
    /// Before the first step (`at_start`) policy and reference are equal, bit for bit, so only the
    /// reference runs.
    pub fn log_probs(
        &self,
        packed: &PackedBatch,
        at_start: bool,
        cache: &ReferenceCache,
    ) -> Result<Vec<LogProb>, TrainError> {
        let reference_logps = self.reference_logps(packed, LogProbGranularity::Sequences, cache)?;
        let policy_logps =
            if at_start { reference_logps.clone() } else { self.decoder.log_probs(packed, Adapter::On)? };
        Ok(sequence_logps(packed, policy_logps, reference_logps))
    }

    /// Combines the policy's token log-probs of a training micro-batch with the reference's, as the
    /// objective needs them. The reference runs only if the objective or humanline needs it.
    pub(crate) fn training_logps(
        &self,
        packed: &PackedBatch,
        policy_token_logps: &[f64],
        settings: &Settings,
        cache: &ReferenceCache,
    ) -> Result<MicroBatchLogps, TrainError> {
        if let Some(humanline) = settings.humanline {
            let reference = self.reference_logps(packed, LogProbGranularity::Tokens, cache)?;
            return Ok(MicroBatchLogps::with_clamp(packed, policy_token_logps, &reference, humanline));
        }
        let reference_logps = if settings.objective.needs_reference() {
            self.reference_logps(packed, LogProbGranularity::Sequences, cache)?
        } else {
            vec![0.0; packed.sequences()]
        };
        Ok(MicroBatchLogps::new(packed, policy_token_logps, reference_logps))
    }

    /// β, the factor from log-ratios to rewards.
    pub fn beta(&self) -> f64 {
        self.loss.beta()
    }

    /// Score that an objective without a reference ranks by; see [`Objective::own_score`](crate::Objective::own_score).
    pub fn own_score(&self, log_prob: LogProb) -> Option<f64> {
        self.loss.own_score(log_prob)
    }

    /// Evaluates the objective: loss, metrics, and d loss / d log π of every sequence.
    pub fn evaluate(&self, roles: &[Role], logps: &[LogProb]) -> BatchLoss {
        self.loss.evaluate(self.state, roles, logps)
    }

    fn reference_logps(
        &self,
        packed: &PackedBatch,
        granularity: LogProbGranularity,
        cache: &ReferenceCache,
    ) -> Result<Vec<f64>, TrainError> {
        cache.log_probs(self.reference_name, &self.reference, packed, granularity)
    }
}
