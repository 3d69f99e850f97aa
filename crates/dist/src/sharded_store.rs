//! Sharded tensors: each rank stores a part of every one and gathers the rest when it needs them.

use std::{
    fmt, io, panic,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread::{self, JoinHandle},
};

use candle_core::Tensor;

use crate::{
    Collective, CollectiveError, DeviceCollective, ZeroStage,
    collective::{PreparedGather, PreparedSum, Shard, shards_to_bytes},
};

/// Collective whose ranks store shards, any of which a rank may gather at any time (as in ZeRO
/// stage 3).
///
/// Ranks need not gather in lockstep. A rank that needs tensors, or that has reached a collective
/// call, announces it to all ranks. As long as any rank needs tensors, all send their shards of
/// them; once every rank has reached its collective call, the call proceeds. So one rank may
/// evaluate while the others wait in a collective call and serve their shards, and ranks may have
/// different numbers of batches.
///
/// A rank that runs out of memory within a pass announces that instead of its next call
/// ([`interrupt`](Collective::interrupt)). Once no rank needs tensors, the others' calls fail, and
/// all ranks can make the same call again. If a rank has too little memory to take part in a gather
/// of others, the pending calls of all ranks fail.
///
/// A gather may run on a thread of its own ([`start_gather`](Self::start_gather)). The calls of a
/// rank still run one at a time, in the order in which they were made. Clones are handles on the
/// same store.
#[derive(Clone)]
pub struct ShardedStore(Arc<StoreState>);

struct StoreState {
    group: Box<dyn Collective>,
    stage: ZeroStage,
    /// Shards by id. Dropped ones leave a dead `Weak`, so that ids stay valid.
    shards: Mutex<Vec<Weak<Shard>>>,
    calls: Mutex<Calls>,
    /// Signals the end of a call.
    ended: Condvar,
}

/// Number of this rank's calls, made and ended.
#[derive(Default)]
struct Calls {
    made: u64,
    ended: u64,
}

/// A call's place in the order of this rank's calls.
struct CallTurn {
    store: ShardedStore,
    number: u64,
}

impl CallTurn {
    /// Blocks until all earlier calls have ended.
    fn begin(&self) -> MutexGuard<'_, Calls> {
        let mut calls = lock(&self.store.0.calls);
        while calls.ended < self.number {
            calls = self.store.0.ended.wait(calls).unwrap_or_else(PoisonError::into_inner);
        }
        calls
    }
}

impl Drop for CallTurn {
    fn drop(&mut self) {
        self.begin().ended += 1;
        self.store.0.ended.notify_all();
    }
}

/// Announcement of a rank in a round.
#[derive(Clone, Copy)]
enum Announcement<'a> {
    /// It needs these tensors.
    Gather(&'a [usize]),
    /// It has reached a collective call.
    Call,
    /// It gives up its pass.
    Interrupt,
}

/// Id of no tensor, which announces an interruption.
const INTERRUPT: u64 = u64::MAX;

impl Announcement<'_> {
    fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Gather(ids) => ids.iter().flat_map(|id| (*id as u64).to_le_bytes()).collect(),
            Self::Call => Vec::new(),
            Self::Interrupt => INTERRUPT.to_le_bytes().to_vec(),
        }
    }
}

/// Announcements of all ranks in a round.
#[derive(Default)]
struct Round {
    /// Tensors that ranks need, each list of ids once.
    requested: Vec<Vec<usize>>,
    /// First rank that gives up its pass.
    interrupted_by: Option<usize>,
}

/// Tensors that this rank has asked for.
struct GatherRequest {
    ids: Vec<usize>,
    /// Held so that they live until the end of the exchange.
    shards: Vec<Arc<Shard>>,
    /// The exchange, for ranks with a [`DeviceCollective`].
    prepared: Option<PreparedGather>,
}

/// Thread that gathers.
type GatherThread = JoinHandle<Result<Vec<Tensor>, CollectiveError>>;

/// Gather that runs on a thread of its own. Dropping it waits for the end of the exchange.
pub struct PendingGather(Option<io::Result<GatherThread>>);

impl PendingGather {
    /// Waits for the whole tensors: flat, in the order of the ids.
    pub fn wait(mut self) -> Result<Vec<Tensor>, CollectiveError> {
        match self.0.take() {
            Some(Ok(thread)) => thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic)),
            Some(Err(error)) => {
                Err(CollectiveError::Launch(format!("cannot start a thread to gather weights: {error}")))
            }
            None => Ok(Vec::new()),
        }
    }
}

impl Drop for PendingGather {
    fn drop(&mut self) {
        if let Some(Ok(thread)) = self.0.take() {
            // The error that ends the pass is another one.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for ShardedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StoreState { group, stage, .. } = &*self.0;
        f.debug_struct("ShardedStore").field("group", group).field("stage", stage).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ShardedStore {
    /// Shards tensors over the ranks of `group`. From now on all of the group's calls go through
    /// the store.
    pub fn new(group: Box<dyn Collective>, stage: ZeroStage) -> Self {
        let (shards, calls) = (Mutex::default(), Mutex::default());
        Self(Arc::new(StoreState { group, stage, shards, calls, ended: Condvar::new() }))
    }

    /// Returns the stage of ZeRO.
    pub fn stage(&self) -> ZeroStage {
        self.0.stage
    }

    /// Registers this rank's shard of a new tensor and returns the tensor's id.
    ///
    /// The store keeps no ownership: the shard lives as long as the caller's `Arc`. All ranks
    /// register the same tensors in the same order.
    pub fn register(&self, shard: &Arc<Shard>) -> usize {
        let mut shards = lock(&self.0.shards);
        shards.push(Arc::downgrade(shard));
        shards.len() - 1
    }

    /// Gathers whole tensors from all ranks, in one exchange: flat, in the order of `ids`.
    pub fn gather(&self, ids: &[usize]) -> Result<Vec<Tensor>, CollectiveError> {
        let (turn, request) = (self.turn(), self.request(ids)?);
        drop(turn.begin());
        self.run(request)
    }

    /// Starts [`gather`](Self::gather) on a thread of its own.
    pub fn start_gather(&self, ids: &[usize]) -> PendingGather {
        let (turn, request) = (self.turn(), self.request(ids));
        let store = self.clone();
        let gather = move || {
            drop(turn.begin());
            store.run(request?)
        };
        PendingGather(Some(thread::Builder::new().name("gather".to_owned()).spawn(gather)))
    }

    /// Takes the next place in the order of calls.
    fn turn(&self) -> CallTurn {
        let mut calls = lock(&self.0.calls);
        calls.made += 1;
        CallTurn { store: self.clone(), number: calls.made - 1 }
    }

    fn request(&self, ids: &[usize]) -> Result<GatherRequest, CollectiveError> {
        let shards = self.shards(ids)?;
        let prepared =
            self.0.group.device_collective().map(|devices| devices.prepare_gather(&whole(&shards)));
        Ok(GatherRequest { ids: ids.to_vec(), shards, prepared: prepared.transpose()? })
    }

    /// Returns this rank's shards of tensors.
    fn shards(&self, ids: &[usize]) -> Result<Vec<Arc<Shard>>, CollectiveError> {
        let shards = lock(&self.0.shards);
        let shard = |id: &usize| shards.get(*id).and_then(Weak::upgrade);
        let found: Option<Vec<_>> = ids.iter().map(shard).collect();
        found.ok_or(CollectiveError::OutOfStep { rank: self.rank() })
    }

    /// Runs a gather in its turn.
    fn run(
        &self,
        GatherRequest { ids, shards, mut prepared }: GatherRequest,
    ) -> Result<Vec<Tensor>, CollectiveError> {
        let mut found = None;
        for requested in self.announce(Announcement::Gather(&ids))?.requested {
            if requested != ids {
                self.prepare_to_serve(&requested)?()?;
                continue;
            }
            // The other ranks go on with the round, so this one does as well, even if it has no
            // memory for what it received.
            found = Some(match prepared.take() {
                Some(exchange) => self.unless_one_failed(Ok(exchange))?(),
                None => self.0.group.all_gather_shards(&whole(&shards)),
            });
        }
        found.ok_or(CollectiveError::OutOfStep { rank: self.rank() })?
    }

    /// Exchanges what the ranks announce in this round.
    fn announce(&self, own: Announcement<'_>) -> Result<Round, CollectiveError> {
        let mut round = Round::default();
        for (rank, message) in self.0.group.all_gather(own.to_bytes())?.iter().enumerate() {
            let (ids, rest) = message.as_chunks::<8>();
            if !rest.is_empty() {
                return Err(CollectiveError::OutOfStep { rank });
            }
            if let [id] = ids
                && u64::from_le_bytes(*id) == INTERRUPT
            {
                round.interrupted_by.get_or_insert(rank);
                continue;
            }
            let ids: Vec<usize> = ids.iter().map(|id| u64::from_le_bytes(*id) as usize).collect();
            if !ids.is_empty() && !round.requested.contains(&ids) {
                round.requested.push(ids);
            }
        }
        Ok(round)
    }

    /// Repeats an announcement, and serves the other ranks' requests, until no rank needs tensors.
    /// Returns the rank that interrupts the others, if one does.
    fn serve_all(&self, own: Announcement<'_>) -> Result<Option<usize>, CollectiveError> {
        loop {
            let Round { requested, interrupted_by } = self.announce(own)?;
            if requested.is_empty() {
                return Ok(interrupted_by);
            }
            for ids in requested {
                match self.prepare_to_serve(&ids) {
                    Ok(exchange) => drop(exchange()?),
                    // All ranks leave the round. This one gives up its pass anyway.
                    Err(CollectiveError::Device(_) | CollectiveError::Interrupted { .. })
                        if matches!(own, Announcement::Interrupt) =>
                    {
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Prepares the exchange that sends this rank's shards of tensors that other ranks need.
    ///
    /// A lack of memory, of any rank, is an error on all ranks, which leave the round.
    fn prepare_to_serve(&self, ids: &[usize]) -> Result<PreparedGather, CollectiveError> {
        let shards = whole(&self.shards(ids)?);
        if let Some(devices) = self.0.group.device_collective() {
            return self.unless_one_failed(devices.prepare_gather(&shards));
        }
        let store = self.clone();
        Ok(Box::new(move || {
            store.0.group.all_gather(shards_to_bytes(&shards)?)?;
            Ok(Vec::new())
        }))
    }

    /// Returns a prepared exchange if all ranks have prepared it.
    fn unless_one_failed(
        &self,
        prepared: Result<PreparedGather, CollectiveError>,
    ) -> Result<PreparedGather, CollectiveError> {
        let failed = self.0.group.all_gather(vec![u8::from(prepared.is_err())])?;
        match failed.iter().position(|failed| *failed != [0]) {
            Some(rank) if prepared.is_ok() => Err(CollectiveError::Interrupted { rank }),
            _ => prepared,
        }
    }

    /// Makes a collective call in its turn: serves the other ranks' requests until all ranks have
    /// reached it.
    fn call<T>(
        &self,
        call: impl FnOnce(&dyn Collective) -> Result<T, CollectiveError>,
    ) -> Result<T, CollectiveError> {
        let turn = self.turn();
        drop(turn.begin());
        match self.serve_all(Announcement::Call)? {
            None => call(&*self.0.group),
            Some(rank) => Err(CollectiveError::Interrupted { rank }),
        }
    }

    /// Returns the collective of the ranks' devices.
    fn devices(&self) -> Result<&dyn DeviceCollective, CollectiveError> {
        self.0.group.device_collective().ok_or(CollectiveError::OutOfStep { rank: self.rank() })
    }
}

fn whole(shards: &[Arc<Shard>]) -> Vec<Shard> {
    shards.iter().map(|shard| Shard::clone(shard)).collect()
}

impl Collective for ShardedStore {
    fn rank(&self) -> usize {
        self.0.group.rank()
    }

    fn world_size(&self) -> usize {
        self.0.group.world_size()
    }

    fn all_gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, CollectiveError> {
        self.call(|group| group.all_gather(own))
    }

    fn all_reduce(&self, values: &mut [f32]) -> Result<(), CollectiveError> {
        self.call(|group| group.all_reduce(values))
    }

    fn reduce_scatter(&self, values: &[f32]) -> Result<Vec<f32>, CollectiveError> {
        self.call(|group| group.reduce_scatter(values))
    }

    fn interrupt(&self) -> Result<(), CollectiveError> {
        let turn = self.turn();
        drop(turn.begin());
        self.serve_all(Announcement::Interrupt).map(|_| ())
    }

    fn finish(&self) -> Result<(), CollectiveError> {
        self.call(|group| group.finish())
    }

    fn device_collective(&self) -> Option<&dyn DeviceCollective> {
        self.0.group.device_collective().map(|_| self as &dyn DeviceCollective)
    }
}

impl DeviceCollective for ShardedStore {
    fn prepare_all_reduce<'a>(&'a self, own: &Tensor) -> Result<PreparedSum<'a>, CollectiveError> {
        let exchange = self.devices()?.prepare_all_reduce(own)?;
        Ok(Box::new(move || self.call(|_| exchange())))
    }

    fn prepare_reduce_scatter<'a>(&'a self, own: &Tensor) -> Result<PreparedSum<'a>, CollectiveError> {
        let exchange = self.devices()?.prepare_reduce_scatter(own)?;
        Ok(Box::new(move || self.call(|_| exchange())))
    }

    fn prepare_gather(&self, shards: &[Shard]) -> Result<PreparedGather, CollectiveError> {
        let (store, exchange) = (self.clone(), self.devices()?.prepare_gather(shards)?);
        Ok(Box::new(move || store.call(|_| exchange())))
    }
}

#[cfg(test)]
mod tests;
