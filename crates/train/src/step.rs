//! One optimizer step: forward, loss, backward, update.
//!
//! KTO's reference point z0 is a mean over the global batch, so the loss needs the log-probs of all
//! micro-batches before the first backward pass:
//!
//! 1. [`forward`] all micro-batches of this rank, and gather the log-probs of all ranks;
//! 2. evaluate the objective once, on the global batch;
//! 3. [`backward`] micro-batch by micro-batch, and sum the gradients of all ranks;
//! 4. clip the gradient norm and update the parameters.
//!
//! Only the last micro-batch keeps its activations from step 1; the others run forward again in
//! step 3. Memory therefore does not grow with the global batch.

use prospect_dist::Collective;
use prospect_model::{Activations, Adapter, Gradients, Parameters, Saved};
use prospect_objective::{BatchLoss, LogProb, Whitening};
use prospect_runs::{MetricsRecord, RecordKind};

use crate::{
    Objective, Policy, ReferenceCache, TrainContext, TrainError,
    batches::{MicroBatch, Role},
    distributed::{all_reduce_gradients, gather_logps, unless_out_of_memory},
    logprobs::{BatchLogps, MicroBatchLogps, UnclampedCount},
    noise_metrics::noise_metrics,
    optimizer::{Optimizer, global_norm, squares_of_gradients},
};

/// One optimizer step: its place in the run and its data.
pub(crate) struct Step<'a> {
    /// Number of the step, from 0.
    pub(crate) index: u64,
    pub(crate) learning_rate: f64,
    /// Micro-batches of the global batch.
    pub(crate) micro_batches: &'a [MicroBatch],
    pub(crate) activations: Activations,
}

/// Takes a step and returns its metrics. Returns None, and changes nothing, if the device of a rank
/// ran out of memory before the update. In the update, no memory is needed that a smaller batch
/// would free.
pub(crate) fn train_step(
    context: &TrainContext<'_>,
    policy: &mut Policy<'_>,
    optimizer: &mut Optimizer<'_>,
    cache: &ReferenceCache,
    step: &Step<'_>,
) -> Result<Option<MetricsRecord>, TrainError> {
    let Step { index, learning_rate, micro_batches, .. } = *step;
    let (parameters, group) = (policy.decoder.parameters(), context.group);
    let part = group.shard_range(micro_batches.len());
    let local = &micro_batches[part.clone()];

    let roles: Vec<Role> = micro_batches.iter().flat_map(|micro| micro.roles.iter().copied()).collect();
    let tokens = micro_batches.iter().flat_map(|micro| micro.packed.lengths());
    let whitening = policy.loss.whitening(&roles, tokens);
    let forwarded = forward(context, policy, whitening, cache, step, local);
    let Some(forwarded) = unless_out_of_memory(group, forwarded)? else { return Ok(None) };
    let LocalForward { logps, last_activations } = forwarded;
    let batch = gather_logps(&logps, group)?;

    let before = policy.state;
    policy.state = policy.loss.observe(policy.state, &roles, &batch.logps);
    let evaluated = policy.evaluate(&roles, &batch);
    let BatchLogps { logps: batch_logps, unclamped, .. } = batch;
    check_finite(index, "loss", evaluated.loss)?;

    let sequences_before = micro_batches[..part.start].iter().map(|micro| micro.roles.len()).sum();
    let local_gradient = &evaluated.gradient[sequences_before..];
    let gradients = backward(context, policy, step, local, &logps, local_gradient, last_activations);
    let Some((gradients, grad_norm)) = sum_gradients(group, parameters, gradients)? else {
        policy.state = before;
        return Ok(None);
    };
    check_finite(index, "norm of the gradient", grad_norm)?;
    if let Some(synced) = &mut policy.synced {
        synced.move_if_due(parameters, index + 1)?;
    }
    let clip = (context.settings.max_grad_norm / grad_norm).min(1.0);
    // Second moments are f32: an infinite one would freeze its weight without a sign.
    let square = ((clip * grad_norm) as f32).powi(2);
    check_finite(index, "square of the clipped gradient in f32", square.into())?;
    optimizer.step(parameters, &gradients, clip, learning_rate)?;

    let noise = if context.examples.has_corrupted() {
        step_noise_metrics(context, policy, micro_batches, &roles, &batch_logps, &evaluated)
    } else {
        Vec::new()
    };
    let values = evaluated
        .metrics
        .named()
        .chain([("loss", evaluated.loss), ("grad_norm", grad_norm), ("learning_rate", learning_rate)])
        .chain(unclamped.map(|count: UnclampedCount| (unclamped_name(context), count.share())))
        .chain(noise)
        .map(|(name, value)| (name.to_owned(), value));
    Ok(Some(MetricsRecord { kind: RecordKind::Train, step: index + 1, values: values.collect() }))
}

/// Returns the gradients of the global batch, from those of this rank, and their norm; None if the
/// device of a rank ran out of memory.
fn sum_gradients<'a>(
    group: &dyn Collective,
    parameters: &Parameters,
    local: Result<Gradients<'a>, TrainError>,
) -> Result<Option<(Gradients<'a>, f64)>, TrainError> {
    let Some(mut gradients) = unless_out_of_memory(group, local)? else { return Ok(None) };
    let Some(()) = all_reduce_gradients(group, parameters, &mut gradients)? else { return Ok(None) };
    let square = squares_of_gradients(parameters, &gradients).map_err(TrainError::from);
    let Some(square) = unless_out_of_memory(group, square)? else { return Ok(None) };
    let norm = global_norm(square, gradients.shards())?;
    Ok(Some((gradients, norm)))
}

/// Name of the share of tokens inside the bounds of humanline or PPO.
fn unclamped_name(context: &TrainContext<'_>) -> &'static str {
    match context.settings.objective {
        Objective::Ppo(_) => "ppo/unclipped",
        _ => "humanline/unclamped",
    }
}

/// Result of the forward pass over the micro-batches of one rank.
struct LocalForward {
    /// One entry per micro-batch.
    logps: Vec<MicroBatchLogps>,
    /// Activations of the last micro-batch; `None` if the rank has no micro-batch.
    last_activations: Option<Saved>,
}

/// Runs policy and reference on all micro-batches of this rank.
fn forward(
    context: &TrainContext<'_>,
    policy: &Policy<'_>,
    whitening: Option<Whitening>,
    cache: &ReferenceCache,
    step: &Step<'_>,
    local: &[MicroBatch],
) -> Result<LocalForward, TrainError> {
    let mut logps = Vec::with_capacity(local.len());
    let Some((last, others)) = local.split_last() else {
        return Ok(LocalForward { logps, last_activations: None });
    };
    // Before the first step, the policy is the reference.
    let at_start = step.index == 0;
    for micro in others {
        #[cfg(test)]
        tests::allocate(&micro.packed, None)?;
        let token_logps = policy.decoder.token_log_probs(&micro.packed, Adapter::On)?;
        logps.push(policy.training_logps(
            micro,
            &token_logps,
            at_start,
            context.settings,
            whitening,
            cache,
        )?);
    }
    #[cfg(test)]
    tests::allocate(&last.packed, Some(step.activations))?;
    let (_, saved) = policy.decoder.forward(&last.packed, step.activations)?;
    let token_logps = saved.token_log_probs();
    logps.push(policy.training_logps(last, token_logps, at_start, context.settings, whitening, cache)?);
    Ok(LocalForward { logps, last_activations: Some(saved) })
}

/// Accumulates parameter gradients over the micro-batches of this rank.
///
/// `sequence_gradient` is that of the objective, starting at the rank's first sequence.
fn backward<'a>(
    context: &TrainContext<'a>,
    policy: &Policy<'_>,
    step: &Step<'_>,
    local: &[MicroBatch],
    logps: &[MicroBatchLogps],
    sequence_gradient: &[f64],
    mut last_activations: Option<Saved>,
) -> Result<Gradients<'a>, TrainError> {
    let decoder = policy.decoder;
    let mut gradients = match context.state_shards() {
        Some(group) => Gradients::sharded(decoder.parameters(), group),
        None => Gradients::none(decoder.parameters()),
    };
    let mut rest = sequence_gradient;
    for (index, (MicroBatch { packed, roles, .. }, logps)) in local.iter().zip(logps).enumerate() {
        let (sequence_gradient, after) = rest.split_at(roles.len());
        rest = after;
        let kept = last_activations.take_if(|_| index + 1 == local.len());
        let saved = if let Some(saved) = kept {
            saved
        } else {
            #[cfg(test)]
            tests::allocate(packed, Some(step.activations))?;
            decoder.forward(packed, step.activations)?.1
        };
        let token_gradient = logps.token_gradient(packed, sequence_gradient);
        decoder.backward_tokens(saved, &token_gradient, &mut gradients)?;
    }
    // Sharded gradients are summed over ranks in every pass, so ranks with fewer micro-batches add
    // passes with a gradient of zero.
    let most = step.micro_batches.len().div_ceil(context.group.world_size());
    let missing = if gradients.shards().is_some() { most - local.len() } else { 0 };
    for MicroBatch { packed, .. } in step.micro_batches.iter().take(1).cycle().take(missing) {
        let (_, saved) = decoder.forward(packed, step.activations)?;
        decoder.backward_tokens(saved, &vec![0.0; packed.scored_sequences().count()], &mut gradients)?;
    }
    Ok(gradients)
}

/// Computes the `noise/…` metrics of a global batch.
fn step_noise_metrics(
    context: &TrainContext<'_>,
    policy: &Policy<'_>,
    micro_batches: &[MicroBatch],
    roles: &[Role],
    logps: &[LogProb],
    evaluated: &BatchLoss,
) -> Vec<(&'static str, f64)> {
    let corrupted: Vec<bool> =
        micro_batches.iter().flat_map(|micro| micro.corrupted.iter().copied()).collect();
    let beta = context.settings.objective.needs_reference().then(|| policy.beta());
    noise_metrics(roles, &corrupted, logps, &evaluated.gradient, beta)
}

pub(crate) fn check_finite(step: u64, what: &'static str, value: f64) -> Result<(), TrainError> {
    if value.is_finite() { Ok(()) } else { Err(TrainError::Diverged { step, what, value }) }
}

#[cfg(test)]
pub(crate) mod tests;
