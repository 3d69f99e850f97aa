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
            return devices.prepare_all_reduce(own)?();
        }
        let mut sum = own.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?;
        self.all_reduce(&mut sum)?;
        Ok(Tensor::from_vec(sum, own.shape(), own.device())?)
    }

    /// Returns this rank's [`even_shard`](Self::even_shard) of the sums of `values` over all ranks,
    /// with the bits of [`all_reduce`](Self::all_reduce).
    fn reduce_scatter(&self, values: &[f32]) -> Result<Vec<f32>, CollectiveError> {
        let mut sums = values.to_vec();
        self.all_reduce(&mut sums)?;
        Ok(sums[self.even_shard(sums.len())].to_vec())
    }

    /// Returns this rank's [`even_shard`](Self::even_shard) of the sum over all ranks of tensors of
    /// one shape: flat, f32, on the device of `own`.
    fn reduce_scatter_tensor(&self, own: &Tensor) -> Result<Tensor, CollectiveError> {
        let flat = own.flatten_all()?.to_dtype(DType::F32)?;
        if let Some(devices) = self.device_collective() {
            return devices.prepare_reduce_scatter(&flat)?();
        }
        let sums = self.reduce_scatter(&flat.to_vec1()?)?;
        let count = sums.len();
        Ok(Tensor::from_vec(sums, count, own.device())?)
    }

    /// Returns whole tensors from the shards of all ranks: flat, on the device of the shards.
    fn all_gather_shards(&self, shards: &[Shard]) -> Result<Vec<Tensor>, CollectiveError> {
        if let Some(devices) = self.device_collective() {
            return devices.prepare_gather(shards)?();
        }
        let parts = self.all_gather(shards_to_bytes(shards)?)?;
        let mut rests: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let mut whole = |Shard { own, count }: &Shard| {
            let width = own.dtype().size_in_bytes();
            let mut bytes = Vec::with_capacity(count * width);
            for (rank, rest) in rests.iter_mut().enumerate() {
                let length = width * self.even_shard_of(rank, *count).len();
                let (part, after) =
                    rest.split_at_checked(length).ok_or(CollectiveError::OutOfStep { rank })?;
                bytes.extend_from_slice(part);
                *rest = after;
            }
            Ok(Tensor::from_raw_buffer(&bytes, own.dtype(), &[*count], own.device())?)
        };
        let tensors = shards.iter().map(&mut whole).collect::<Result<Vec<_>, CollectiveError>>()?;
        match rests.iter().position(|rest| !rest.is_empty()) {
            Some(rank) => Err(CollectiveError::OutOfStep { rank }),
            None => Ok(tensors),
        }
    }

    /// Returns the whole tensor from the shards of all ranks, like
    /// [`all_gather_shards`](Self::all_gather_shards).
    fn all_gather_shard(&self, shard: Shard) -> Result<Tensor, CollectiveError> {
        let whole = self.all_gather_shards(&[shard])?.pop();
        whole.ok_or(CollectiveError::OutOfStep { rank: self.rank() })
    }

    /// Returns the bytes that rank 0 passed. Other ranks may pass anything.
    fn broadcast(&self, own: Vec<u8>) -> Result<Vec<u8>, CollectiveError> {
        self.all_gather(own)?.into_iter().next().ok_or(CollectiveError::OutOfStep { rank: 0 })
    }

    /// Blocks until all ranks have called it.
    fn barrier(&self) -> Result<(), CollectiveError> {
        self.all_gather(Vec::new()).map(|_| ())
    }

    /// Gives up a pass in which ranks make calls, on a rank that cannot make its next one: other
    /// ranks' pending calls, or their next ones, fail with [`CollectiveError::Interrupted`]. All
    /// ranks then continue with the same call.
    ///
    /// Does nothing in a group whose ranks make no calls in a pass, which is any but a
    /// [`ShardedStore`](crate::ShardedStore).
    fn interrupt(&self) -> Result<(), CollectiveError> {
        Ok(())
    }

    /// Ends the group in order after the last operation. All ranks call it; a rank that fails does
    /// not, and is noticed by the others.
    fn finish(&self) -> Result<(), CollectiveError> {
        Ok(())
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

    /// Returns this rank's part of `count` elements of sharded training state: see
    /// [`even_shard_of`](Self::even_shard_of).
    fn even_shard(&self, count: usize) -> Range<usize> {
        self.even_shard_of(self.rank(), count)
    }

    /// Returns a rank's part of `count` elements of sharded training state: contiguous and of equal
    /// size, as devices exchange them; the last ranks may have fewer or none.
    fn even_shard_of(&self, rank: usize, count: usize) -> Range<usize> {
        let size = count.div_ceil(self.world_size());
        (rank * size).min(count)..((rank + 1) * size).min(count)
    }
}

/// Collective operations on tensors that stay on the ranks' devices.
///
/// As for [`Collective`], all ranks make the same calls in the same order.
pub trait DeviceCollective: Send + Sync + fmt::Debug {
    /// Prepares the exchange that returns the f32 sum over all ranks of tensors of one shape.
    ///
    /// All ranks get the same bits; the order of addition is not defined. Memory is allocated here:
    /// a rank that has too little fails before the others wait for it.
    fn prepare_all_reduce<'a>(&'a self, own: &Tensor) -> Result<PreparedSum<'a>, CollectiveError>;

    /// Prepares the exchange that returns this rank's [even shard](Collective::even_shard) of the
    /// sum of flat f32 tensors. Memory is allocated here.
    fn prepare_reduce_scatter<'a>(&'a self, own: &Tensor) -> Result<PreparedSum<'a>, CollectiveError>;

    /// Prepares the exchange of [`Collective::all_gather_shards`], and returns it.
    ///
    /// Results are allocated here, so call it on the thread that computes, before the work that may
    /// run meanwhile. The exchange may run on another thread.
    fn prepare_gather(&self, shards: &[Shard]) -> Result<PreparedGather, CollectiveError>;
}

/// Exchange of shards that is ready to run, once on every rank.
pub type PreparedGather = Box<dyn FnOnce() -> Result<Vec<Tensor>, CollectiveError> + Send>;

/// Sum over all ranks that is ready to run, once on every rank.
pub type PreparedSum<'a> = Box<dyn FnOnce() -> Result<Tensor, CollectiveError> + 'a>;

/// One rank's part of a tensor whose elements are divided among the ranks.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Elements of this rank's [even shard](Collective::even_shard): flat.
    pub own: Tensor,
    /// Number of elements of the whole tensor.
    pub count: usize,
}

impl Shard {
    /// Returns a rank's shard of a tensor, without copying it.
    pub fn of(whole: &Tensor, group: &dyn Collective) -> candle_core::Result<Self> {
        let count = whole.elem_count();
        let range = group.even_shard(count);
        Ok(Self { own: whole.flatten_all()?.narrow(0, range.start, range.len())?, count })
    }

    /// Returns the bytes of this rank's elements.
    pub fn bytes(&self) -> usize {
        self.own.elem_count() * self.own.dtype().size_in_bytes()
    }
}

/// Encodes the elements of shards for sending.
pub(crate) fn shards_to_bytes(shards: &[Shard]) -> Result<Vec<u8>, CollectiveError> {
    let mut bytes = Vec::with_capacity(shards.iter().map(Shard::bytes).sum());
    for Shard { own, .. } in shards {
        own.write_bytes(&mut bytes)?;
    }
    Ok(bytes)
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
    use crate::{on_threads, threads::thread_group};

    #[test]
    fn broadcast_sends_from_rank_0_and_check_equal_names_the_rank_that_differs() {
        let errors = on_threads(3, |group| {
            let received = group.broadcast(vec![group.rank() as u8]).unwrap();
            group.check_equal(received).unwrap();
            group.check_equal(vec![u8::from(group.rank() == 2)]).unwrap_err().to_string()
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
                let even: Vec<usize> =
                    thread_group(world_size).iter().flat_map(|rank| rank.even_shard(count)).collect();
                assert_eq!(even, all);
            }
        }
    }

    #[test]
    fn scattered_sums_are_shards_of_the_reduced_ones_and_gather_to_the_whole() {
        for (world_size, count) in [(1, 5), (3, 10), (4, 5)] {
            on_threads(world_size, |group| {
                let own: Vec<f32> = (0..count).map(|i| (group.rank() * count + i) as f32 * 0.1).collect();
                let own = Tensor::new(own, &candle_core::Device::Cpu).unwrap();
                let sum: Vec<f32> = group.all_reduce_tensor(&own).unwrap().to_vec1().unwrap();
                let shard = group.reduce_scatter_tensor(&own).unwrap();
                assert_eq!(shard.to_vec1::<f32>().unwrap(), sum[group.even_shard(count)]);
                for dtype in [DType::F32, DType::BF16] {
                    // Two tensors in one exchange.
                    let shards = [(shard.to_dtype(dtype).unwrap(), count), (shard.clone(), count)]
                        .map(|(own, count)| Shard { own, count });
                    let [whole, sums] = group.all_gather_shards(&shards).unwrap().try_into().unwrap();
                    assert_eq!(sums.to_vec1::<f32>().unwrap(), sum);
                    let expected = Tensor::new(sum.clone(), &candle_core::Device::Cpu).unwrap();
                    let expected = expected.to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap();
                    assert_eq!(
                        whole.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap(),
                        expected.to_vec1::<f32>().unwrap()
                    );
                }
            });
        }
    }
}
