//! Collective operations of a group of ranks.

use std::{fmt, ops::Range};

use candle_core::{DType, Tensor};

use crate::CollectiveError;

/// One rank's handle on its group. All ranks make the same calls in the same order.
pub trait Collective: Send + Sync + fmt::Debug {
    /// Returns this process's rank, from 0.
    fn rank(&self) -> usize;

    /// Returns the number of ranks.
    fn world_size(&self) -> usize;

    /// Returns the bytes of every rank, by rank. Blocks until all ranks have sent theirs.
    ///
    /// # Errors
    /// Fails if a rank is lost.
    fn all_gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, CollectiveError>;

    /// Replaces `values` by their sums over all ranks.
    ///
    /// The sums have the same bits on every rank: they are added in rank order, not in order of
    /// arrival.
    fn all_reduce(&self, values: &mut [f32]) -> Result<(), CollectiveError> {
        if self.world_size() == 1 {
            return Ok(());
        }
        let parts = self.all_gather(to_bytes(values))?;
        values.fill(0.0);
        parts.iter().enumerate().try_for_each(|(rank, part)| add_received(values, part, rank))
    }

    /// Returns the collective of the ranks' devices, if they communicate without host memory.
    fn device_collective(&self) -> Option<&dyn DeviceCollective> {
        None
    }

    /// Returns the sum over all ranks of tensors of one shape: f32, on the device of `own`, with
    /// the same bits on every rank.
    fn all_reduce_tensor(&self, own: &Tensor) -> Result<Tensor, CollectiveError> {
        if let Some(devices) = self.device_collective() {
            return devices.all_reduce_on_device(own);
        }
        let mut sum = own.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?;
        self.all_reduce(&mut sum)?;
        Ok(Tensor::from_vec(sum, own.shape(), own.device())?)
    }

    /// Returns the bytes that rank 0 passed. Other ranks may pass anything.
    fn broadcast(&self, own: Vec<u8>) -> Result<Vec<u8>, CollectiveError> {
        self.all_gather(own)?.into_iter().next().ok_or(CollectiveError::OutOfStep { rank: 0 })
    }

    /// Blocks until all ranks have called it.
    fn barrier(&self) -> Result<(), CollectiveError> {
        self.all_gather(Vec::new()).map(|_| ())
    }

    /// Checks that all ranks pass the same bytes.
    ///
    /// # Errors
    /// Names the first rank that differs from rank 0.
    fn check_equal(&self, own: Vec<u8>) -> Result<(), CollectiveError> {
        let all = self.all_gather(own)?;
        match all.iter().position(|other| *other != all[0]) {
            Some(rank) => Err(CollectiveError::OutOfStep { rank }),
            None => Ok(()),
        }
    }

    /// Returns this rank's shard of `count` items: see [`shard_range_of`](Self::shard_range_of).
    fn shard_range(&self, count: usize) -> Range<usize> {
        self.shard_range_of(self.rank(), count)
    }

    /// Returns a rank's shard of `count` items: contiguous, with sizes that differ by at most one.
    fn shard_range_of(&self, rank: usize, count: usize) -> Range<usize> {
        let world_size = self.world_size();
        rank * count / world_size..(rank + 1) * count / world_size
    }
}

/// Collective operations on tensors that stay on the ranks' devices.
///
/// As for [`Collective`], all ranks make the same calls in the same order.
pub trait DeviceCollective: Send + Sync + fmt::Debug {
    /// Returns the f32 sum over all ranks of tensors of one shape.
    ///
    /// All ranks get the same bits; the order of addition is not defined.
    fn all_reduce_on_device(&self, own: &Tensor) -> Result<Tensor, CollectiveError>;

    /// Returns a matrix of `rows` rows from each rank's [shard](Collective::shard_range) of them.
    fn all_gather_on_device(&self, own: &Tensor, rows: usize) -> Result<Tensor, CollectiveError>;
}

/// Encodes values for sending.
pub(crate) fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Adds the values received from `rank`.
pub(crate) fn add_received(values: &mut [f32], received: &[u8], rank: usize) -> Result<(), CollectiveError> {
    let (elements, rest) = received.as_chunks::<4>();
    if elements.len() != values.len() || !rest.is_empty() {
        return Err(CollectiveError::OutOfStep { rank });
    }
    for (sum, element) in values.iter_mut().zip(elements) {
        *sum += f32::from_le_bytes(*element);
    }
    Ok(())
}

/// Group of one rank.
#[derive(Debug, Clone, Copy, Default)]
pub struct SingleProcess;

impl Collective for SingleProcess {
    fn rank(&self) -> usize {
        0
    }

    fn world_size(&self) -> usize {
        1
    }

    fn all_gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, CollectiveError> {
        Ok(vec![own])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thread_group;

    #[test]
    fn broadcast_sends_from_rank_0_and_check_equal_names_the_rank_that_differs() {
        let errors: Vec<_> = std::thread::scope(|scope| {
            let ranks = thread_group(3).into_iter().map(|group| {
                scope.spawn(move || {
                    let received = group.broadcast(vec![group.rank() as u8]).unwrap();
                    group.check_equal(received).unwrap();
                    group.check_equal(vec![u8::from(group.rank() == 2)]).unwrap_err().to_string()
                })
            });
            let ranks: Vec<_> = ranks.collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        });
        assert!(errors.iter().all(|error| error.contains("rank 2 is out of step")), "{errors:?}");
    }

    #[test]
    fn shards_cover_every_item_once() {
        for world_size in 1..6 {
            for count in 0..20 {
                let all: Vec<usize> =
                    thread_group(world_size).iter().flat_map(|rank| rank.shard_range(count)).collect();
                assert_eq!(all, (0..count).collect::<Vec<_>>());
            }
        }
    }
}
