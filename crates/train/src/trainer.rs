//! The training loop: data order, steps, callbacks and checkpoints.

use std::{ops::ControlFlow, time::Instant};

use prospect_core::interrupt::Resumable;
use prospect_dist::ZeroStage;
use prospect_model::{
    Decoder, Model, Train,
    device::{self, Device},
};

use crate::{
    Checkpoints, ObjectiveState, Observer, Policy, ReferenceCache, ReferenceModel, StopReason, TrainContext,
    TrainError, TrainOutcome, TrainState, TrainedPolicy,
    batches::{EpochSampler, SampledBatch, micro_batches},
    checkpoint::Restored,
    distributed::{all_continue, assert_finite_weights, assert_same_weights, restore, whole_weights},
    loss::LossFunction,
    optimizer::Optimizer,
    reference::SyncedReference,
    step::{Step, train_step},
    step_budget::StepBudget,
};

/// Trains a policy. Resumes from the newest checkpoint, if there is one.
pub fn train(
    context: &TrainContext<'_>,
    cache: &ReferenceCache,
    observer: &mut dyn Observer,
) -> Result<TrainOutcome, TrainError> {
    let started = Instant::now();
    let _resumable = context.checkpoints.map(|_| Resumable::begin());
    let context = &context.with_room_for_reference();
    let TrainContext { model, settings, examples, group, checkpoints, .. } = *context;
    let start = || match context.train {
        Train::Lora(lora) => model.decoder.with_lora(lora, context.seed),
        Train::Full if context.zero == Some(ZeroStage::Three) => model.decoder.with_all_trained_in_shards(),
        Train::Full => model.decoder.with_all_trained(),
    };
    let mut decoder = start()?;
    if let Some(group) = context.state_shards() {
        decoder.set_state_shards(group.world_size());
    }
    let decoder = decoder;
    let parameters = decoder.parameters();
    let reference = match context.train {
        Train::Lora(_) => ReferenceModel::AdapterOff(&decoder),
        Train::Full => ReferenceModel::Frozen(&model.decoder),
    };
    let reference_name = reference_name(model);
    let mut policy = Policy {
        decoder: &decoder,
        reference,
        reference_name: &reference_name,
        state: ObjectiveState::default(),
        synced: settings
            .sync
            .map(|sync| Ok::<_, TrainError>(SyncedReference::new(sync, start()?)))
            .transpose()?,
        loss: LossFunction::new(&settings.objective, examples.class_counts()),
    };
    let mut optimizer =
        Optimizer::new(settings.optimizer, settings.weight_decay, parameters, context.state_shards())?;
    let per_batch = (settings.batch_size / examples.completions_per_example()).max(1);
    let mut sampler = EpochSampler::new(context.seed, examples.len(), per_batch);
    let total = settings.steps(examples.completions());

    let restored = {
        let tensors = Restored { parameters, optimizer: &mut optimizer, synced: policy.synced.as_mut() };
        restore(checkpoints, group, tensors)?
    };
    if restored.is_none() {
        let flow = all_continue(group, 0, observer.on_step_end(0, total, &policy, cache))?;
        if let ControlFlow::Break(reason) = flow {
            return Ok(TrainOutcome::Stopped(reason));
        }
    }
    let TrainState { step: first, mut tokens, seconds: earlier, objective } = restored.unwrap_or_default();
    policy.state = objective;
    let mut budget = StepBudget::new(settings, context.activations, decoder.architecture().layers);
    let seconds = || earlier + started.elapsed().as_secs_f64();

    for step in first..total {
        let SampledBatch { batch, epoch } = sampler.batch(step);
        let learning_rate = settings.learning_rate_at(step, total);
        let mut retries = 0;
        let (mut record, rows) = loop {
            let micro = micro_batches(examples, batch, epoch, &budget.settings, context.encoder)?;
            let (micro_batches, activations) = (&micro[..], budget.activations);
            let this = Step { index: step, learning_rate, micro_batches, activations };
            if let Some(record) = train_step(context, &mut policy, &mut optimizer, cache, &this)? {
                break (record, micro.iter().map(|micro| micro.packed.rows() as u64).sum::<u64>());
            }
            back_off(&mut budget, step, decoder.device())?;
            retries += 1;
        };
        if retries > 0 {
            record.values.insert("memory/retries".to_owned(), f64::from(retries));
            let size = budget.settings.micro_batch_size as f64;
            record.values.insert("memory/micro_batch_size".to_owned(), size);
        }
        let done = step + 1;
        tokens += rows;
        record.values.insert("num_tokens".to_owned(), tokens as f64);
        record.values.insert("epoch".to_owned(), done as f64 / sampler.steps_per_epoch() as f64);
        observer.on_log(record)?;
        let interrupted = match all_continue(group, done, observer.on_step_end(done, total, &policy, cache))?
        {
            ControlFlow::Continue(()) => None,
            ControlFlow::Break(reason @ StopReason::Interrupted { .. }) => Some(reason),
            ControlFlow::Break(reason) => return Ok(TrainOutcome::Stopped(reason)),
        };
        let is_due = |checkpoints: &&Checkpoints| interrupted.is_some() || checkpoints.is_due(done);
        let due = checkpoints.filter(|_| done < total).filter(is_due);
        if due.is_some() || done == total {
            assert_same_weights(group, parameters, done)?;
        }
        if done == total {
            assert_finite_weights(group, parameters, done)?;
        }
        if let Some(checkpoints) = due {
            let state = TrainState { step: done, tokens, seconds: seconds(), objective: policy.state };
            save(checkpoints, state, context, &policy, &optimizer)?;
        }
        if let Some(reason) = interrupted.filter(|_| done < total) {
            return Ok(TrainOutcome::Stopped(reason));
        }
    }
    let seconds = seconds();
    let trained = TrainedPolicy { policy: decoder, steps: total, tokens, seconds };
    Ok(TrainOutcome::Completed(Box::new(trained)))
}

/// Calls the observer once for a policy that is not trained, as before the first of 0 steps. The
/// reference is the model at the start of the stage; without a `policy`, so is the policy.
pub fn observe_untrained(
    context: &TrainContext<'_>,
    policy: Option<&Decoder>,
    cache: &ReferenceCache,
    observer: &mut dyn Observer,
) -> Result<ControlFlow<StopReason>, TrainError> {
    let start = &context.model.decoder;
    let loss = LossFunction::new(&context.settings.objective, context.examples.class_counts());
    let reference_name = reference_name(context.model);
    let policy = Policy {
        decoder: policy.unwrap_or(start),
        reference: ReferenceModel::Frozen(start),
        reference_name: &reference_name,
        state: ObjectiveState::default(),
        synced: None,
        loss,
    };
    observer.on_step_end(0, 0, &policy, cache)
}

/// Writes a checkpoint. All ranks contribute their shards of the state.
fn save(
    checkpoints: &Checkpoints,
    state: TrainState,
    context: &TrainContext<'_>,
    policy: &Policy<'_>,
    optimizer: &Optimizer<'_>,
) -> Result<(), TrainError> {
    let TrainContext { group, .. } = *context;
    let is_main = group.rank() == 0;
    if !is_main && context.state_shards().is_none() {
        return Ok(());
    }
    let parameters = policy.decoder.parameters();
    let mut tensors = optimizer.state_dict(parameters)?;
    tensors.extend(whole_weights(parameters, "", group)?);
    if let Some(synced) = &policy.synced {
        tensors.extend(synced.state_dict(group)?);
    }
    if is_main { checkpoints.save(state, tensors) } else { Ok(()) }
}

/// Returns the name of a model's log-probs in the cache. They depend on the kernels, so that runs
/// with different kernels on CPUs do not share them, except for f32 products by the newest kernels
/// of each machine.
fn reference_name(model: &Model) -> String {
    let decoder = &model.decoder;
    match decoder.kernels() {
        kernels if decoder.device().is_cpu() && kernels != "gemm" => {
            format!("{} {kernels}", model.fingerprint)
        }
        _ => model.fingerprint.clone(),
    }
}

/// Shrinks the budget of a step that ran out of memory.
fn back_off(budget: &mut StepBudget, step: u64, device: &Device) -> Result<(), TrainError> {
    let micro_batch_size = budget.settings.micro_batch_size;
    if !budget.shrink() {
        return Err(TrainError::OutOfMemory { step, micro_batch_size });
    }
    // Blocks of other sizes may be in the way of the next ones.
    device::release_unused_memory(device)?;
    tracing::warn!(
        "step {step}: out of memory; repeating it, and continuing, with micro-batches of {} and activations {:?}",
        budget.settings.micro_batch_size,
        budget.activations
    );
    Ok(())
}
