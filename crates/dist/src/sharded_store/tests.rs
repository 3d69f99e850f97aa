use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use candle_core::{DType, Device};

use super::*;
use crate::{ThreadRank, on_threads};

/// Registers shards of the tensors [10·n, 10·n + 1, 10·n + 2], n = 1, 2, 3, on one of three ranks.
fn register(store: &ShardedStore) -> Vec<Arc<Shard>> {
    let shards = [10_f32, 20.0, 30.0].map(|first| {
        let whole = Tensor::new(&[first, first + 1.0, first + 2.0], &Device::Cpu).unwrap();
        Arc::new(Shard::of(&whole, store).unwrap())
    });
    assert_eq!(shards.each_ref().map(|shard| store.register(shard)), [0, 1, 2]);
    shards.into()
}

fn assert_gathered(tensors: &[Tensor], ids: &[usize]) {
    for (tensor, id) in tensors.iter().zip(ids) {
        let first = 10.0 * (*id as f32 + 1.0);
        assert_eq!(tensor.to_vec1::<f32>().unwrap(), [first, first + 1.0, first + 2.0]);
    }
    assert_eq!(tensors.len(), ids.len());
}

/// Runs `work` on three threads that share three tensors. Each thread then leaves the group.
fn on_three_ranks<T: Send>(
    wrap: impl Fn(ThreadRank) -> Box<dyn Collective> + Sync,
    work: impl Fn(&ShardedStore) -> T + Sync,
) -> Vec<T> {
    on_threads(3, |group| {
        let store = ShardedStore::new(wrap(group), ZeroStage::Two);
        let _shards = register(&store);
        work(&store)
    })
}

fn plain(group: ThreadRank) -> Box<dyn Collective> {
    Box::new(group)
}

#[test]
fn ranks_need_not_be_in_lockstep() {
    let results = on_three_ranks(plain, |store| {
        let rank = store.rank();
        // Ranks gather other tensors, in another order and number; rank 2 gathers none.
        let needed: [&[&[usize]]; 3] = [&[&[0], &[1, 2], &[2], &[1]], &[&[2, 0]], &[]];
        for ids in needed[rank] {
            assert_gathered(&store.gather(ids)?, ids);
        }
        assert_eq!(store.all_gather(vec![rank as u8])?, [[0], [1], [2]]);
        // Once more, after a collective call.
        if rank == 2 {
            assert_gathered(&store.gather(&[0])?, &[0]);
        }
        let mut sum = [rank as f32];
        store.all_reduce(&mut sum)?;
        assert_eq!(sum, [3.0]);
        Ok::<_, CollectiveError>(())
    });
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

#[test]
fn an_unknown_id_fails_on_all_ranks() {
    let results = on_three_ranks(plain, |store| {
        if store.rank() == 1 {
            store.gather(&[7]).map(|_| ())
        } else {
            store.all_gather(Vec::new()).map(|_| ())
        }
    });
    assert!(results.iter().all(Result::is_err), "{results:?}");
}

/// Group that notes the size of each message.
#[derive(Debug)]
struct Noted {
    group: ThreadRank,
    sizes: Arc<Mutex<Vec<usize>>>,
}

impl Collective for Noted {
    fn rank(&self) -> usize {
        self.group.rank()
    }

    fn world_size(&self) -> usize {
        self.group.world_size()
    }

    fn all_gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, CollectiveError> {
        lock(&self.sizes).push(own.len());
        self.group.all_gather(own)
    }
}

#[test]
fn gathers_on_other_threads_keep_the_order_of_calls_on_all_ranks() {
    let sizes: [Arc<Mutex<Vec<usize>>>; 3] = Default::default();
    let wrap = |group: ThreadRank| -> Box<dyn Collective> {
        let sizes = Arc::clone(&sizes[group.rank()]);
        Box::new(Noted { group, sizes })
    };
    let rounds = 20;
    on_three_ranks(wrap, |store| {
        let rank = store.rank();
        for round in 0..rounds {
            // The main thread computes for another time on every rank, then makes a collective
            // call, perhaps before the thread that gathers has started.
            let pending = store.start_gather(&[0, 1]);
            thread::sleep(Duration::from_micros(37 * ((rank + round) % 3) as u64));
            assert_eq!(store.all_gather(vec![rank as u8; 5]).unwrap(), [[0; 5], [1; 5], [2; 5]]);
            assert_gathered(&pending.wait().unwrap(), &[0, 1]);
            // Dropped unused, as by an error, a gather still ends before the next call.
            drop(store.start_gather(&[2]));
        }
        store.barrier().unwrap();
    });
    // A request and its data, then the announcement of the collective call and its data.
    let round = [16, 8, 0, 5, 8, 4];
    let expected = [round.repeat(rounds), vec![0, 0]].concat();
    for sizes in &sizes {
        assert_eq!(*lock(sizes), expected);
    }
}

#[test]
fn a_rank_that_fails_with_a_gather_under_way_ends_the_others() {
    let results = on_three_ranks(plain, |store| {
        if store.rank() == 1 {
            // All ranks answer the first gather, none the second.
            store.gather(&[0])?;
            return Err(CollectiveError::Launch("out of memory".to_owned()));
        }
        store.gather(&[0])?;
        let pending = store.start_gather(&[1, 2]);
        store.all_reduce(&mut [1.0])?;
        pending.wait().map(|_| ())
    });
    for (rank, result) in results.iter().enumerate() {
        let error = result.as_ref().unwrap_err().to_string();
        let expected = if rank == 1 { "out of memory" } else { "lost rank" };
        assert!(error.contains(expected), "rank {rank}: {error}");
    }
}

#[test]
fn a_rank_that_gives_up_interrupts_the_calls_of_the_others_and_all_continue() {
    // The rank that gives up makes none, some or all but the last of the calls of a pass.
    for (failing, made) in [(0, 0), (1, 2), (2, 3)] {
        on_three_ranks(plain, |store| {
            let rank = store.rank();
            let pass = |calls: usize| {
                for call in 0..calls {
                    // A gather that runs while the rank computes.
                    let pending = store.start_gather(&[call % 3]);
                    assert_eq!(store.all_gather(vec![7])?, [[7], [7], [7]]);
                    assert_gathered(&pending.wait()?, &[call % 3]);
                }
                Ok::<_, CollectiveError>(())
            };
            if rank == failing {
                pass(made).unwrap();
                drop(store.start_gather(&[1]));
                store.interrupt().unwrap();
            } else {
                let error = pass(4).unwrap_err();
                assert!(matches!(error, CollectiveError::Interrupted { rank } if rank == failing), "{error}");
            }
            pass(4).unwrap();
        });
    }
}

#[test]
fn ranks_that_give_up_together_continue_together() {
    on_three_ranks(plain, |store| {
        let rank = store.rank();
        if rank == 2 {
            // It still needs tensors when the others have given up.
            assert_gathered(&store.gather(&[0]).unwrap(), &[0]);
            let interrupted = store.all_gather(Vec::new());
            assert!(matches!(interrupted, Err(CollectiveError::Interrupted { rank: 0 })), "{interrupted:?}");
        } else {
            store.interrupt().unwrap();
        }
        assert_eq!(store.all_gather(vec![rank as u8]).unwrap(), [[0], [1], [2]]);
    });
}

/// Group of which one rank has no memory for a gather.
#[derive(Debug)]
struct Tight {
    group: Arc<ThreadRank>,
    /// Exchanges tensors as devices do, with memory allocated before; else through host memory.
    direct: bool,
    /// Gathers up to the one that fails.
    left: AtomicUsize,
}

impl Collective for Tight {
    fn rank(&self) -> usize {
        self.group.rank()
    }

    fn world_size(&self) -> usize {
        self.group.world_size()
    }

    fn all_gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, CollectiveError> {
        self.group.all_gather(own)
    }

    fn all_gather_shards(&self, shards: &[Shard]) -> Result<Vec<Tensor>, CollectiveError> {
        let tensors = self.group.all_gather_shards(shards)?;
        self.allocate().map(|()| tensors)
    }

    fn device_collective(&self) -> Option<&dyn DeviceCollective> {
        self.direct.then_some(self)
    }
}

impl Tight {
    fn allocate(&self) -> Result<(), CollectiveError> {
        match self.left.fetch_sub(1, Ordering::Relaxed) {
            1 => Err(CollectiveError::Device(candle_core::Error::msg("no memory"))),
            _ => Ok(()),
        }
    }
}

impl DeviceCollective for Tight {
    fn prepare_all_reduce<'a>(&'a self, own: &Tensor) -> Result<PreparedSum<'a>, CollectiveError> {
        let own = own.clone();
        Ok(Box::new(move || self.group.all_reduce_tensor(&own)))
    }

    fn prepare_reduce_scatter<'a>(&'a self, own: &Tensor) -> Result<PreparedSum<'a>, CollectiveError> {
        let own = own.clone();
        Ok(Box::new(move || self.group.reduce_scatter_tensor(&own)))
    }

    fn prepare_gather(&self, shards: &[Shard]) -> Result<PreparedGather, CollectiveError> {
        self.allocate()?;
        let (group, shards) = (Arc::clone(&self.group), shards.to_vec());
        Ok(Box::new(move || group.all_gather_shards(&shards)))
    }
}

/// Runs `work` on three threads, of which `failing` has no memory for its gather of number `nth`.
fn with_a_tight_rank<T: Send>(
    direct: bool,
    failing: usize,
    nth: usize,
    work: impl Fn(&ShardedStore) -> T + Sync,
) -> Vec<T> {
    let wrap = |group: ThreadRank| -> Box<dyn Collective> {
        let left = AtomicUsize::new(if group.rank() == failing { nth } else { 0 });
        Box::new(Tight { group: Arc::new(group), direct, left })
    };
    on_three_ranks(wrap, work)
}

#[test]
fn a_rank_without_memory_for_the_gather_of_another_interrupts_all_and_all_continue() {
    // Ranks 0 and 1 gather different tensors at once; rank 2 waits in a collective call. Each fails
    // at the first gather it serves or asks for, and at the next.
    for (failing, nth) in [(2, 1), (2, 2), (0, 1), (0, 2), (1, 1), (1, 2)] {
        with_a_tight_rank(true, failing, nth, |store| {
            let rank = store.rank();
            let pass = || match rank {
                0 => store.gather(&[0]).map(|_| ()),
                1 => store.gather(&[1, 2]).map(|_| ()),
                _ => store.barrier(),
            };
            let passed = pass();
            match &passed {
                // A rank that cannot ask says so when the others have gathered.
                Ok(()) => assert!(nth == 1 && failing < 2 && rank != failing),
                Err(CollectiveError::Device(_)) => assert_eq!(rank, failing),
                Err(CollectiveError::Interrupted { rank: by }) => assert_eq!(*by, failing),
                Err(other) => panic!("rank {rank}: {other}"),
            }
            if rank != 2 && passed.is_err() {
                store.interrupt().unwrap();
            }
            vote(store);
            assert_gathered(&store.gather(&[2, 0]).unwrap(), &[2, 0]);
            store.barrier().unwrap();
        });
    }
}

/// Votes as a training step does: until no rank interrupts the vote.
fn vote(store: &ShardedStore) {
    while let Err(interrupted) = store.all_gather(Vec::new()) {
        assert!(matches!(interrupted, CollectiveError::Interrupted { .. }), "{interrupted}");
    }
}

#[test]
fn a_rank_that_gives_up_leaves_a_round_of_several_requests_with_the_others() {
    // Rank 2 gives up while ranks 0 and 1 gather different tensors. The first gather fails, on the
    // other requester or on rank 2 itself, or the second one.
    for (failing, nth) in [(1, 2), (2, 1), (0, 2), (2, 2)] {
        with_a_tight_rank(true, failing, nth, |store| {
            let rank = store.rank();
            if rank < 2 {
                let error = store.gather(&[rank]).unwrap_err();
                assert_eq!(matches!(error, CollectiveError::Device(_)), rank == failing, "{error}");
            }
            store.interrupt().unwrap();
            vote(store);
            assert_gathered(&store.gather(&[2, 0]).unwrap(), &[2, 0]);
            store.barrier().unwrap();
        });
    }
}

#[test]
fn a_rank_that_cannot_place_its_tensors_stays_in_the_round() {
    for failing in [0, 1] {
        with_a_tight_rank(false, failing, 1, |store| {
            let rank = store.rank();
            if rank < 2 {
                let gathered = store.gather(&[rank]);
                assert_eq!(gathered.is_err(), rank == failing);
            }
            if rank == failing {
                store.interrupt().unwrap();
            }
            vote(store);
            assert_gathered(&store.gather(&[2, 0]).unwrap(), &[2, 0]);
            store.barrier().unwrap();
        });
    }
}

#[test]
fn a_rank_that_gives_up_need_not_serve() {
    with_a_tight_rank(true, 0, 1, |store| {
        if store.rank() == 0 {
            // It fails to serve the gather of rank 1 meanwhile.
            store.interrupt().unwrap();
        } else {
            let given_up = if store.rank() == 1 { store.gather(&[1]).map(|_| ()) } else { store.barrier() };
            assert!(matches!(given_up, Err(CollectiveError::Interrupted { rank: 0 })), "{given_up:?}");
            store.interrupt().unwrap();
        }
        assert_eq!(store.all_gather(vec![store.rank() as u8]).unwrap(), [[0], [1], [2]]);
        assert_gathered(&store.gather(&[1]).unwrap(), &[1]);
        store.barrier().unwrap();
    });
}

#[test]
fn tensors_of_several_types_and_uneven_sizes_are_gathered_together() {
    on_three_ranks(plain, |store| {
        let whole: Vec<Tensor> = [(DType::U8, 7), (DType::BF16, 4), (DType::F32, 2)]
            .map(|(dtype, count)| {
                Tensor::arange(0_u32, count, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
            })
            .into();
        let shards: Vec<_> = whole.iter().map(|whole| Arc::new(Shard::of(whole, store).unwrap())).collect();
        let ids: Vec<usize> = shards.iter().map(|shard| store.register(shard)).collect();
        for (gathered, whole) in store.gather(&ids).unwrap().iter().zip(&whole) {
            assert_eq!((gathered.dtype(), gathered.dims()), (whole.dtype(), whole.dims()));
            let values = |x: &Tensor| x.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(values(gathered), values(whole));
        }
        store.barrier().unwrap();
    });
}
