//! Collective operations of data-parallel training.
//!
//! Every rank runs its part of the micro-batches. Log-probs are gathered before the loss, gradients
//! summed before the optimizer step, so that all ranks evaluate the same objective on the same
//! global batch and take the same step.

use std::ops::ControlFlow;

use candle_core::{DType, Device, Tensor};
use prospect_core::interrupt;
use prospect_dist::{Collective, CollectiveError, PreparedSum};
use prospect_model::{Gradients, Parameter, Parameters};
use prospect_objective::LogProb;

use crate::{
    Checkpoints, StopReason, TrainError, TrainState,
    checkpoint::Restored,
    logprobs::{BatchLogps, MicroBatchLogps, UnclampedCount},
    optimizer::norm_of_weights,
    step::check_finite,
};

/// Gathers the log-probs of all ranks, in the order of the micro-batches.
///
/// A rank sends records of four u64, little-endian. The first is its count of unclamped tokens
/// (present or not, inside, total, 0); one per sequence follows (bits of the policy's log-prob, of
/// the reference's, and of PPO's surrogate; tokens).
pub(crate) fn gather_logps(
    local: &[MicroBatchLogps],
    group: &dyn Collective,
) -> Result<BatchLogps, CollectiveError> {
    let unclamped = local.iter().filter_map(MicroBatchLogps::unclamped).reduce(UnclampedCount::add);
    let UnclampedCount { inside, total } = unclamped.unwrap_or_default();
    let header = [u64::from(unclamped.is_some()), inside as u64, total as u64, 0];
    let sequences = local.iter().flat_map(|micro_batch| {
        let surrogates = micro_batch.surrogates.iter().copied().chain(std::iter::repeat(0.0));
        micro_batch.logps.iter().zip(surrogates)
    });
    let sequences = sequences.map(|(LogProb { policy, reference, tokens }, surrogate)| {
        [policy.to_bits(), reference.to_bits(), surrogate.to_bits(), *tokens as u64]
    });
    let sent = std::iter::once(header).chain(sequences).flatten().flat_map(u64::to_le_bytes).collect();

    let (mut logps, mut surrogates) = (Vec::new(), Vec::new());
    let mut unclamped: Option<UnclampedCount> = None;
    for (rank, received) in group.all_gather(sent)?.iter().enumerate() {
        let (records, rest) = received.as_chunks::<32>();
        let mut records = records.iter().map(|record| {
            let value = |at: usize| {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&record[at..at + 8]);
                u64::from_le_bytes(bytes)
            };
            [value(0), value(8), value(16), value(24)]
        });
        let Some([clamps, inside, total, _]) = records.next().filter(|_| rest.is_empty()) else {
            return Err(CollectiveError::OutOfStep { rank });
        };
        if clamps > 0 {
            let count = UnclampedCount { inside: inside as usize, total: total as usize };
            unclamped = Some(unclamped.unwrap_or_default().add(count));
        }
        for [policy, reference, surrogate, tokens] in records {
            let (policy, reference) = (f64::from_bits(policy), f64::from_bits(reference));
            logps.push(LogProb { policy, reference, tokens: tokens as usize });
            surrogates.push(f64::from_bits(surrogate));
        }
    }
    Ok(BatchLogps { logps, surrogates, unclamped })
}

/// Largest bucket of gradients that are summed at once, in f32 elements (256 MiB).
const BUCKET_ELEMENTS: usize = 64 << 20;

/// Sums the gradients of all ranks, in buckets. A rank without micro-batches contributes zeros.
/// Sharded gradients have been summed as they were computed. Returns None if the device of any rank
/// ran out of memory.
pub(crate) fn all_reduce_gradients(
    group: &dyn Collective,
    parameters: &Parameters,
    gradients: &mut Gradients<'_>,
) -> Result<Option<()>, TrainError> {
    if group.world_size() == 1 || gradients.shards().is_some() {
        return Ok(Some(()));
    }
    all_reduce_in_buckets(group, parameters, gradients, BUCKET_ELEMENTS)
}

/// Sums the gradients of all ranks, in buckets of up to `limit` elements, or of one parameter.
fn all_reduce_in_buckets(
    group: &dyn Collective,
    parameters: &Parameters,
    gradients: &mut Gradients<'_>,
    limit: usize,
) -> Result<Option<()>, TrainError> {
    // What this rank has done so far. Ranks wait for each other's memory before each sum.
    let mut done = Ok(());
    for bucket in buckets(parameters, limit) {
        let prepared = done.and_then(|()| prepare_bucket_sum(group, &bucket, gradients));
        let Some(exchange) = unless_out_of_memory(group, prepared)? else { return Ok(None) };
        let sum = exchange().map_err(TrainError::from);
        done = sum.and_then(|sum| Ok(set_gradients(&bucket, &sum, gradients)?));
    }
    unless_out_of_memory(group, done)
}

/// Divides parameters into buckets of up to `limit` elements, or of one parameter.
fn buckets(parameters: &Parameters, limit: usize) -> Vec<Vec<&Parameter>> {
    let mut buckets: Vec<Vec<&Parameter>> = Vec::new();
    let mut elements = 0;
    for (_, parameter) in parameters.iter() {
        let count = parameter.value().elem_count();
        match buckets.last_mut() {
            Some(bucket) if elements + count <= limit => {
                bucket.push(parameter);
                elements += count;
            }
            _ => {
                buckets.push(vec![parameter]);
                elements = count;
            }
        }
    }
    buckets
}

/// Prepares the sum over all ranks of the gradients of some parameters, as one flat tensor.
fn prepare_bucket_sum<'a>(
    group: &'a dyn Collective,
    bucket: &[&Parameter],
    gradients: &Gradients<'_>,
) -> Result<PreparedSum<'a>, TrainError> {
    let flat = bucket.iter().map(|parameter| {
        let value = parameter.value();
        match gradients.get(parameter) {
            Some(gradient) => gradient.flatten_all()?.to_dtype(DType::F32),
            None => Tensor::zeros(value.elem_count(), DType::F32, value.device()),
        }
    });
    let flat = Tensor::cat(&flat.collect::<Result<Vec<_>, _>>()?, 0)?;
    match group.device_collective() {
        Some(devices) => Ok(devices.prepare_all_reduce(&flat)?),
        None => Ok(Box::new(move || group.all_reduce_tensor(&flat))),
    }
}

/// Replaces the gradients of some parameters by their parts of a flat tensor.
fn set_gradients(
    bucket: &[&Parameter],
    flat: &Tensor,
    gradients: &mut Gradients<'_>,
) -> candle_core::Result<()> {
    let mut first = 0;
    for parameter in bucket {
        let value = parameter.value();
        let count = value.elem_count();
        // A copy, so that the bucket can be freed.
        let own = flat.narrow(0, first, count)?.force_contiguous()?;
        gradients.set(parameter, own.reshape(value.shape())?.to_dtype(value.dtype())?);
        first += count;
    }
    Ok(())
}

/// Returns a rank's result if all ranks have one; None if the device of any rank ran out of memory.
/// Any other error is returned as it is.
pub(crate) fn unless_out_of_memory<T>(
    group: &dyn Collective,
    local: Result<T, TrainError>,
) -> Result<Option<T>, TrainError> {
    let mut local = match local {
        Ok(value) => Some(value),
        Err(error) if error.is_out_of_memory() => {
            // Other ranks may wait for this one in a call of the pass.
            group.interrupt()?;
            None
        }
        Err(error) => return Err(error),
    };
    if group.world_size() == 1 {
        return Ok(local);
    }
    let all = loop {
        match group.all_gather(vec![u8::from(local.is_none())]).map_err(TrainError::from) {
            // The vote was interrupted, or this rank has no memory to send weights that others need
            // before they vote.
            Err(error) if error.is_out_of_memory() => local = None,
            votes => break votes?,
        }
    };
    Ok(local.filter(|_| all.iter().all(|rank| *rank == [0])))
}

/// Continues only if every rank continues.
///
/// A rank that stops, or fails, stops all others with [`StopReason::OtherRank`]; one that is
/// interrupted interrupts all of them.
pub(crate) fn all_continue(
    group: &dyn Collective,
    step: u64,
    local: Result<ControlFlow<StopReason>, TrainError>,
) -> Result<ControlFlow<StopReason>, TrainError> {
    let local = match local {
        Ok(ControlFlow::Continue(())) if interrupt::requested().is_some() => {
            Ok(ControlFlow::Break(StopReason::Interrupted { step }))
        }
        local => local,
    };
    if group.world_size() == 1 {
        return local;
    }
    // An empty message means "continue"; the mark keeps an empty reason apart from that.
    let message = match &local {
        Ok(ControlFlow::Continue(())) => String::new(),
        Ok(ControlFlow::Break(StopReason::Interrupted { .. })) => INTERRUPTED.to_owned(),
        Ok(ControlFlow::Break(reason)) => format!("!{reason}"),
        Err(error) => format!("!{error}"),
    };
    let messages = group.all_gather(message.into_bytes());
    // A rank that stops for a reason of its own reports that reason.
    match local? {
        ControlFlow::Continue(()) | ControlFlow::Break(StopReason::Interrupted { .. }) => {}
        ended @ ControlFlow::Break(_) => return Ok(ended),
    }
    let messages = messages?;
    let stopped = messages.iter().enumerate().find_map(|(rank, message)| {
        let reason = String::from_utf8_lossy(message.strip_prefix(b"!")?).into_owned();
        Some(StopReason::OtherRank { rank, reason })
    });
    let is_interrupted = messages.iter().any(|message| message == INTERRUPTED.as_bytes());
    let stopped = stopped.or(is_interrupted.then_some(StopReason::Interrupted { step }));
    Ok(stopped.map_or(ControlFlow::Continue(()), ControlFlow::Break))
}

/// Fails on all ranks if the trained weights of any rank are not finite after the last `step`: no
/// further step would find out.
pub(crate) fn assert_finite_weights(
    group: &dyn Collective,
    parameters: &Parameters,
    step: u64,
) -> Result<(), TrainError> {
    let own = norm_of_weights(parameters)?;
    let norms = group.all_gather(own.to_le_bytes().to_vec())?;
    let norms = norms.iter().filter_map(|norm| Some(f64::from_le_bytes(norm.as_slice().try_into().ok()?)));
    norms.into_iter().try_for_each(|norm| check_finite(step, "norm of the trained weights", norm))
}

/// Message of an interrupted rank.
const INTERRUPTED: &str = "interrupted";

/// Restores the newest checkpoint on all ranks, and checks that it is the same step everywhere.
pub(crate) fn restore(
    checkpoints: Option<&Checkpoints>,
    group: &dyn Collective,
    into: Restored<'_, '_>,
) -> Result<Option<TrainState>, TrainError> {
    let restore = || match checkpoints {
        Some(checkpoints) => checkpoints.restore(into, group),
        None => Ok(None),
    };
    let step = |state: &Option<TrainState>| state.map_or(0, |state| state.step);
    let rank = group.rank();
    if rank == 0 {
        let state = restore()?;
        group.broadcast(step(&state).to_le_bytes().to_vec())?;
        return Ok(state);
    }
    // Rank 0 prepares the run's folder before it broadcasts, so other ranks read after it.
    let received = group.broadcast(Vec::new())?;
    let first = <[u8; 8]>::try_from(received).map_err(|_| CollectiveError::OutOfStep { rank: 0 })?;
    let (state, first) = (restore()?, u64::from_le_bytes(first));
    let found = step(&state);
    if found == first { Ok(state) } else { Err(TrainError::CheckpointMismatch { rank, found, first }) }
}

/// Returns whole weights by name, after `prefix`. Sharded ones are gathered: all ranks must call
/// it, and only rank 0 gets them, on the CPU.
pub(crate) fn whole_weights(
    parameters: &Parameters,
    prefix: &str,
    group: &dyn Collective,
) -> Result<Vec<(String, Tensor)>, TrainError> {
    let mut weights = Vec::with_capacity(parameters.len());
    for (name, parameter) in parameters.iter() {
        let whole = parameter.whole(group)?;
        if !parameter.is_shard() {
            weights.push((format!("{prefix}{name}"), whole));
        } else if group.rank() == 0 {
            weights.push((format!("{prefix}{name}"), whole.to_device(&Device::Cpu)?));
        }
    }
    Ok(weights)
}

/// Checks that all ranks hold the same weights, except shards: each rank computes its updates
/// itself.
pub(crate) fn assert_same_weights(
    group: &dyn Collective,
    parameters: &Parameters,
    step: u64,
) -> Result<(), TrainError> {
    if group.world_size() == 1 {
        return Ok(());
    }
    let mut hasher = blake3::Hasher::new();
    for (_, parameter) in parameters.iter().filter(|(_, parameter)| !parameter.is_shard()) {
        parameter.value().write_bytes(&mut std::io::BufWriter::new(&mut hasher))?;
    }
    match group.check_equal(hasher.finalize().as_bytes().to_vec()) {
        Err(CollectiveError::OutOfStep { .. }) => Err(TrainError::WeightsDiffer { step }),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use prospect_dist::{ThreadRank, on_threads};

    use super::*;
    use crate::optimizer::tests::{gradients, policy};

    #[test]
    fn one_rank_stops_all_and_each_knows_why() {
        let stop = StopReason::EarlyStop { step: 3, reason: "accuracy is low".to_owned() };
        let outcomes = on_threads(3, |thread| {
            let local =
                if thread.rank() == 1 { ControlFlow::Break(stop.clone()) } else { ControlFlow::Continue(()) };
            all_continue(&thread, 3, Ok(local)).unwrap()
        });
        let other = StopReason::OtherRank { rank: 1, reason: "step 3: accuracy is low".to_owned() };
        let expected = [other.clone(), stop, other].map(ControlFlow::Break);
        assert_eq!(outcomes, expected);
    }

    #[test]
    fn an_error_of_one_rank_stops_the_others() {
        let outcomes = on_threads(2, |thread| {
            let failed = thread.rank() == 0;
            let error = || TrainError::Examples("no data".to_owned());
            let local = if failed { Err(error()) } else { Ok(ControlFlow::Continue(())) };
            all_continue(&thread, 3, local).map_err(|error| error.to_string())
        });
        let reason = "training data: no data".to_owned();
        let stopped = ControlFlow::Break(StopReason::OtherRank { rank: 0, reason: reason.clone() });
        assert_eq!(outcomes, [Err(reason), Ok(stopped)]);
    }

    /// Group that counts its exchanges.
    #[derive(Debug)]
    struct Counted(ThreadRank, AtomicUsize);

    impl Collective for Counted {
        fn rank(&self) -> usize {
            self.0.rank()
        }

        fn world_size(&self) -> usize {
            self.0.world_size()
        }

        fn all_gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, CollectiveError> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.all_gather(own)
        }
    }

    #[test]
    fn gradients_are_summed_in_few_exchanges() {
        let policy = policy();
        let parameters = policy.parameters();
        let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let counts = parameters.iter().map(|(_, parameter)| parameter.value().elem_count());
        let own = gradients(&policy);
        // All in one bucket, in a few, and each in its own.
        let all = parameters.len();
        for (limit, buckets) in [(BUCKET_ELEMENTS, 1..2), (counts.max().unwrap(), 2..all), (1, all..all + 1)]
        {
            let found = on_threads(3, |thread| {
                let group = Counted(thread, AtomicUsize::new(0));
                // Rank 2 has no micro-batch.
                let mut sums =
                    if group.rank() == 2 { Gradients::none(parameters) } else { gradients(&policy) };
                assert_eq!(all_reduce_in_buckets(&group, parameters, &mut sums, limit).unwrap(), Some(()));
                for (name, parameter) in parameters.iter() {
                    let twice = (own.get(parameter).unwrap() * 2.0).unwrap();
                    assert_eq!(flat(sums.get(parameter).unwrap()), flat(&twice), "{name}");
                }
                group.1.into_inner()
            });
            // A bucket takes a vote and a sum; a vote follows the last one.
            assert!(
                found.iter().all(|found| found % 2 == 1 && buckets.contains(&(found / 2))),
                "{limit}: {found:?}"
            );
        }
    }

    #[test]
    fn ranks_continue_together() {
        let flows = on_threads(2, |thread| all_continue(&thread, 3, Ok(ControlFlow::Continue(()))).unwrap());
        assert_eq!(flows, [ControlFlow::Continue(()), ControlFlow::Continue(())]);
    }
}
