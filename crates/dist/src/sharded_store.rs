//! Sharded tensors: each rank stores some rows and gathers the rest when it needs them.

use std::{
    error::Error,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use candle_core::Tensor;

use crate::{Collective, CollectiveError, DeviceCollective};

/// Message of a rank that gathers nothing because it has reached a collective call.
const AT_COLLECTIVE: u64 = u64::MAX;

/// One rank's shard of a matrix: some of its rows.
pub trait MatrixShard: Send + Sync {
    /// Returns the shard as it is stored, for ranks that communicate through host memory.
    fn bytes(&self) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>>;

    /// Returns the shard's rows and the number of rows of the whole matrix, for ranks with a
    /// [`DeviceCollective`].
    fn rows(&self) -> Result<(Tensor, usize), Box<dyn Error + Send + Sync>>;
}

/// Matrix gathered from the shards of all ranks.
#[derive(Debug)]
pub enum Gathered {
    /// Stored bytes of each shard, by rank.
    Bytes(Vec<Vec<u8>>),
    /// Whole matrix on this rank's device.
    Rows(Tensor),
}

/// Collective whose ranks store shards, any of which a rank may gather at any time (as in ZeRO
/// stage 3).
///
/// Ranks need not gather in lockstep. A rank that needs a matrix, or that has reached a collective
/// call, announces it to all ranks. As long as any rank needs a matrix, all send their shards of
/// it; once every rank has reached its collective call, the call proceeds. So one rank may evaluate
/// while the others wait in a collective call and serve their shards, and ranks may have different
/// numbers of batches.
pub struct ShardedStore {
    group: Box<dyn Collective>,
    /// Shards by id. Dropped matrices leave a dead `Weak`, so that ids stay valid.
    shards: Mutex<Vec<Weak<dyn MatrixShard>>>,
}

impl fmt::Debug for ShardedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardedStore").field("group", &self.group).finish_non_exhaustive()
    }
}

type Shards<'a> = MutexGuard<'a, Vec<Weak<dyn MatrixShard>>>;

impl ShardedStore {
    /// Shards matrices over the ranks of `group`. From now on all of the group's calls go through
    /// the store.
    pub fn new(group: Box<dyn Collective>) -> Self {
        Self { group, shards: Mutex::default() }
    }

    /// Registers this rank's shard of a new matrix and returns the matrix's id.
    ///
    /// The store keeps no ownership: the matrix lives as long as the caller's `Arc`. All ranks
    /// register the same matrices in the same order.
    pub fn register(&self, shard: &Arc<dyn MatrixShard>) -> usize {
        let mut shards = self.lock();
        shards.push(Arc::downgrade(shard));
        shards.len() - 1
    }

    /// Gathers the matrix `id` from all ranks.
    pub fn gather(&self, id: usize) -> Result<Gathered, CollectiveError> {
        let shards = self.lock();
        let mut found = None;
        for requested in self.exchange_requests(Some(id))? {
            let matrix = self.serve(&shards, requested)?;
            if requested == id {
                found = Some(matrix);
            }
        }
        found.ok_or(CollectiveError::OutOfStep { rank: self.group.rank() })
    }

    fn devices(&self) -> Result<&dyn DeviceCollective, CollectiveError> {
        self.group.device_collective().ok_or(CollectiveError::OutOfStep { rank: self.group.rank() })
    }

    fn lock(&self) -> Shards<'_> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the ids of matrices that ranks request in this round, each once. A rank at a
    /// collective call passes `None`.
    fn exchange_requests(&self, own: Option<usize>) -> Result<Vec<usize>, CollectiveError> {
        let message = own.map_or(AT_COLLECTIVE, |id| id as u64);
        let mut requested = Vec::new();
        for (rank, message) in self.group.all_gather(message.to_le_bytes().to_vec())?.into_iter().enumerate()
        {
            let message = <[u8; 8]>::try_from(message).map_err(|_| CollectiveError::OutOfStep { rank })?;
            let id = u64::from_le_bytes(message);
            if id != AT_COLLECTIVE && !requested.contains(&(id as usize)) {
                requested.push(id as usize);
            }
        }
        Ok(requested)
    }

    /// Serves the other ranks' requests until all ranks have reached a collective call.
    fn serve_until_all_arrive(&self, shards: &Shards<'_>) -> Result<(), CollectiveError> {
        loop {
            let requested = self.exchange_requests(None)?;
            if requested.is_empty() {
                return Ok(());
            }
            for id in requested {
                self.serve(shards, id)?;
            }
        }
    }

    /// Sends this rank's shard of a matrix and returns the whole matrix.
    fn serve(&self, shards: &Shards<'_>, id: usize) -> Result<Gathered, CollectiveError> {
        let rank = self.group.rank();
        let shard = shards.get(id).and_then(Weak::upgrade).ok_or(CollectiveError::OutOfStep { rank })?;
        let failed = |source| CollectiveError::Shard { source };
        Ok(match self.group.device_collective() {
            Some(devices) => {
                let (own, rows) = shard.rows().map_err(failed)?;
                Gathered::Rows(devices.all_gather_on_device(&own, rows)?)
            }
            None => Gathered::Bytes(self.group.all_gather(shard.bytes().map_err(failed)?)?),
        })
    }
}

impl Collective for ShardedStore {
    fn rank(&self) -> usize {
        self.group.rank()
    }

    fn world_size(&self) -> usize {
        self.group.world_size()
    }

    fn all_gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, CollectiveError> {
        let shards = self.lock();
        self.serve_until_all_arrive(&shards)?;
        self.group.all_gather(own)
    }

    fn all_reduce(&self, values: &mut [f32]) -> Result<(), CollectiveError> {
        let shards = self.lock();
        self.serve_until_all_arrive(&shards)?;
        self.group.all_reduce(values)
    }

    fn reduce_scatter(&self, values: &[f32]) -> Result<Vec<f32>, CollectiveError> {
        let shards = self.lock();
        self.serve_until_all_arrive(&shards)?;
        self.group.reduce_scatter(values)
    }

    fn finish(&self) -> Result<(), CollectiveError> {
        let shards = self.lock();
        self.serve_until_all_arrive(&shards)?;
        self.group.finish()
    }

    fn device_collective(&self) -> Option<&dyn DeviceCollective> {
        self.group.device_collective().map(|_| self as &dyn DeviceCollective)
    }
}

impl DeviceCollective for ShardedStore {
    fn all_reduce_on_device(&self, own: &Tensor) -> Result<Tensor, CollectiveError> {
        let shards = self.lock();
        self.serve_until_all_arrive(&shards)?;
        self.devices()?.all_reduce_on_device(own)
    }

    fn all_gather_on_device(&self, own: &Tensor, rows: usize) -> Result<Tensor, CollectiveError> {
        let shards = self.lock();
        self.serve_until_all_arrive(&shards)?;
        self.devices()?.all_gather_on_device(own, rows)
    }

    fn reduce_scatter_on_device(&self, own: &Tensor) -> Result<Tensor, CollectiveError> {
        let shards = self.lock();
        self.serve_until_all_arrive(&shards)?;
        self.devices()?.reduce_scatter_on_device(own)
    }

    fn all_gather_shards_on_device(&self, own: &Tensor, count: usize) -> Result<Tensor, CollectiveError> {
        let shards = self.lock();
        self.serve_until_all_arrive(&shards)?;
        self.devices()?.all_gather_shards_on_device(own, count)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::thread_group;

    struct ByteShard(u8);

    impl MatrixShard for ByteShard {
        fn bytes(&self) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
            Ok(vec![self.0])
        }

        fn rows(&self) -> Result<(Tensor, usize), Box<dyn Error + Send + Sync>> {
            Err("threads have no devices".into())
        }
    }

    fn bytes(gathered: Gathered) -> Vec<Vec<u8>> {
        let Gathered::Bytes(shards) = gathered else { panic!("{gathered:?}") };
        shards
    }

    /// Runs `work` on three threads that share three matrices. Each thread then leaves the group.
    fn on_three_ranks(
        work: impl Fn(&ShardedStore) -> Result<(), CollectiveError> + Sync,
    ) -> Vec<Result<(), CollectiveError>> {
        thread::scope(|scope| {
            let work = &work;
            let ranks = thread_group(3).into_iter().map(|group| {
                scope.spawn(move || {
                    let store = ShardedStore::new(Box::new(group));
                    let rank = store.rank() as u8;
                    let shards =
                        [10, 20, 30].map(|first| Arc::new(ByteShard(first + rank)) as Arc<dyn MatrixShard>);
                    assert_eq!(shards.each_ref().map(|shard| store.register(shard)), [0, 1, 2]);
                    work(&store)
                })
            });
            let ranks: Vec<_> = ranks.collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    #[test]
    fn ranks_need_not_be_in_lockstep() {
        let results = on_three_ranks(|store| {
            let rank = store.rank();
            // Ranks gather other matrices, in another order and number; rank 2 gathers none.
            let needed: [&[usize]; 3] = [&[0, 1, 2, 1, 1], &[2, 0], &[]];
            for id in needed[rank] {
                let first = 10 * (*id as u8 + 1);
                assert_eq!(bytes(store.gather(*id)?), [[first], [first + 1], [first + 2]]);
            }
            assert_eq!(store.all_gather(vec![rank as u8])?, [[0], [1], [2]]);
            // Once more, after a collective call.
            if rank == 2 {
                assert_eq!(bytes(store.gather(0)?), [[10], [11], [12]]);
            }
            let mut sum = [rank as f32];
            store.all_reduce(&mut sum)?;
            assert_eq!(sum, [3.0]);
            Ok(())
        });
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }

    #[test]
    fn an_unknown_id_fails_on_all_ranks() {
        let results = on_three_ranks(|store| {
            if store.rank() == 1 {
                store.gather(7).map(|_| ())
            } else {
                store.all_gather(Vec::new()).map(|_| ())
            }
        });
        assert!(results.iter().all(Result::is_err), "{results:?}");
    }
}
