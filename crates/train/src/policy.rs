//! A policy in training, with its reference and its loss.

use prospect_model::{Adapter, Decoder, PackedBatch};
use prospect_objective::{BatchLoss, LogProb, Whitening};

use crate::{
    LogProbGranularity, MicroBatch, Objective, ObjectiveState, ReferenceCache, ReferenceModel, Settings,
    TrainError,
    batches::Role,
    logprobs::{BatchLogps, MicroBatchLogps, sequence_logps},
    loss::LossFunction,
    reference::SyncedReference,
};

/// A policy in training and its reference.
pub struct Policy<'a> {
    /// The policy.
    pub decoder: &'a Decoder,
    /// The reference at the start of the stage. Evaluations always use it.
    pub reference: ReferenceModel<'a>,
    /// Name of the reference in the cache.
    pub reference_name: &'a str,
    /// State of the objective.
    pub state: ObjectiveState,
    /// The reference of training steps, if it moves.
    pub(crate) synced: Option<SyncedReference>,
    pub(crate) loss: LossFunction,
}

/// Sequences of several micro-batches, scored without gradient.
pub struct ScoredBatches {
    /// Role of each sequence.
    pub roles: Vec<Role>,
    /// Log-probs of each sequence.
    pub logps: Vec<LogProb>,
    /// Value of the objective.
    pub evaluated: BatchLoss,
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

    /// Scores micro-batches as one batch, and evaluates the objective on it. `at_start` is as for
    /// [`log_probs`](Self::log_probs).
    pub fn score(
        &self,
        batches: &[MicroBatch],
        at_start: bool,
        cache: &ReferenceCache,
    ) -> Result<ScoredBatches, TrainError> {
        let roles: Vec<Role> = batches.iter().flat_map(|batch| batch.roles.iter().copied()).collect();
        let tokens = batches.iter().flat_map(|batch| batch.packed.lengths());
        let whitening = self.loss.whitening(&roles, tokens);
        let mut scored = BatchLogps::default();
        for MicroBatch { packed, roles, .. } in batches {
            if let (Some(whitening), Objective::Ppo(options)) = (whitening, self.loss.objective()) {
                let reference = self.reference_logps(packed, LogProbGranularity::Tokens, cache)?;
                let policy = if at_start {
                    reference.clone()
                } else {
                    self.decoder.token_log_probs(packed, Adapter::On)?
                };
                let whitened = (options, whitening);
                let logps = MicroBatchLogps::with_surrogates(packed, roles, &policy, &reference, whitened);
                scored.logps.extend(logps.logps);
                scored.surrogates.extend(logps.surrogates);
            } else {
                scored.logps.extend(self.log_probs(packed, at_start, cache)?);
            }
        }
        let evaluated = self.evaluate(&roles, &scored);
        Ok(ScoredBatches { roles, logps: scored.logps, evaluated })
    }

    /// Combines the policy's token log-probs of a training micro-batch with the reference's, as the
    /// objective needs them. The reference runs only if the objective or humanline needs it, and
    /// not before the first step (`at_start`), where it equals the policy bit for bit.
    pub(crate) fn training_logps(
        &self,
        MicroBatch { packed, roles, .. }: &MicroBatch,
        policy_token_logps: &[f64],
        at_start: bool,
        settings: &Settings,
        whitening: Option<Whitening>,
        cache: &ReferenceCache,
    ) -> Result<MicroBatchLogps, TrainError> {
        let reference = |granularity| {
            if !at_start {
                return self.training_reference_logps(packed, granularity, cache);
            }
            let logps = match granularity {
                LogProbGranularity::Tokens => policy_token_logps.to_vec(),
                LogProbGranularity::Sequences => packed.sum_by_sequence(policy_token_logps),
            };
            let by_sequence = self.decoder.rows_are_independent();
            cache.insert(self.reference_name, packed, granularity, &logps, by_sequence)?;
            Ok(logps)
        };
        if let (Some(whitening), Objective::Ppo(options)) = (whitening, &settings.objective) {
            let reference = reference(LogProbGranularity::Tokens)?;
            let whitened = (options, whitening);
            return Ok(MicroBatchLogps::with_surrogates(
                packed,
                roles,
                policy_token_logps,
                &reference,
                whitened,
            ));
        }
        if let Some(humanline) = settings.humanline {
            let reference = reference(LogProbGranularity::Tokens)?;
            return Ok(MicroBatchLogps::with_clamp(packed, policy_token_logps, &reference, humanline));
        }
        let reference_logps = if settings.objective.needs_reference() {
            reference(LogProbGranularity::Sequences)?
        } else {
            vec![0.0; packed.sequences()]
        };
        Ok(MicroBatchLogps::new(packed, policy_token_logps, reference_logps))
    }

    /// β, the factor from log-ratios to rewards.
    pub fn beta(&self) -> f64 {
        self.loss.beta()
    }

    /// Score that an objective without a reference ranks by; see
    /// [`Objective::own_score`](crate::Objective::own_score).
    pub fn own_score(&self, log_prob: LogProb) -> Option<f64> {
        self.loss.own_score(log_prob)
    }

    /// Evaluates the objective: loss, metrics, and the gradient of every sequence.
    pub(crate) fn evaluate(&self, roles: &[Role], batch: &BatchLogps) -> BatchLoss {
        self.loss.evaluate(self.state, roles, batch)
    }

    /// Log-probs under the reference of training steps. Those of a moved reference are never
    /// cached: they belong to few steps.
    fn training_reference_logps(
        &self,
        packed: &PackedBatch,
        granularity: LogProbGranularity,
        cache: &ReferenceCache,
    ) -> Result<Vec<f64>, TrainError> {
        let moved = self.synced.as_ref().and_then(|synced| synced.log_probs(packed, granularity));
        moved.unwrap_or_else(|| self.reference_logps(packed, granularity, cache))
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
