//! Group whose ranks are threads of one process.

use std::{
    panic,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use crate::{
    Collective, CollectiveError,
    collective::{add_received, to_bytes},
};

/// One thread's handle on its group. Dropping it fails the other ranks' pending calls.
#[derive(Debug)]
pub struct ThreadRank {
    rank: usize,
    shared: Arc<SharedState>,
}

#[derive(Debug)]
struct SharedState {
    state: Mutex<RoundState>,
    changed: Condvar,
}

#[derive(Debug)]
struct RoundState {
    /// Data sent in the current round, by rank.
    sent: Vec<Option<Vec<u8>>>,
    /// Data of the last finished round.
    gathered: Arc<Vec<Vec<u8>>>,
    round: u64,
    lost: Option<usize>,
}

/// Runs `work` on each rank of a group of `world_size` threads, and returns the results by rank.
///
/// # Panics
/// Panics if `work` does on a rank.
pub fn on_threads<T: Send>(world_size: usize, work: impl Fn(ThreadRank) -> T + Sync) -> Vec<T> {
    let work = &work;
    thread::scope(|scope| {
        let ranks = thread_group(world_size).into_iter().map(|rank| scope.spawn(move || work(rank)));
        let ranks: Vec<_> = ranks.collect();
        let join = |rank: thread::ScopedJoinHandle<'_, T>| {
            rank.join().unwrap_or_else(|reason| panic::resume_unwind(reason))
        };
        ranks.into_iter().map(join).collect()
    })
}

/// Creates a group of `world_size` ranks, one for each of as many threads, by rank.
pub(crate) fn thread_group(world_size: usize) -> Vec<ThreadRank> {
    let state = RoundState { sent: vec![None; world_size], gathered: Arc::default(), round: 0, lost: None };
    let shared = Arc::new(SharedState { state: Mutex::new(state), changed: Condvar::new() });
    (0..world_size).map(|rank| ThreadRank { rank, shared: Arc::clone(&shared) }).collect()
}

impl SharedState {
    fn lock(&self) -> MutexGuard<'_, RoundState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ThreadRank {
    /// Returns the bytes of every rank, by rank, which all ranks share.
    fn exchange(&self, own: Vec<u8>) -> Result<Arc<Vec<Vec<u8>>>, CollectiveError> {
        let mut state = self.shared.lock();
        let round = state.round;
        state.sent[self.rank] = Some(own);
        if state.sent.iter().all(Option::is_some) {
            let all = state.sent.iter_mut().filter_map(Option::take).collect();
            state.gathered = Arc::new(all);
            state.round += 1;
            self.shared.changed.notify_all();
        }
        while state.round == round {
            if let Some(rank) = state.lost {
                return Err(CollectiveError::RankLost { rank, detail: String::new() });
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        // `gathered` is still this round's: the next round ends only once this rank has sent again.
        Ok(Arc::clone(&state.gathered))
    }
}

impl Collective for ThreadRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.shared.lock().sent.len()
    }

    fn all_gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, CollectiveError> {
        Ok(self.exchange(own)?.to_vec())
    }

    fn reduce_scatter(&self, values: &[f32]) -> Result<Vec<f32>, CollectiveError> {
        let range = self.even_shard(values.len());
        let mut sums = vec![0.0; range.len()];
        for (rank, part) in self.exchange(to_bytes(values))?.iter().enumerate() {
            let shard =
                part.get(4 * range.start..4 * range.end).ok_or(CollectiveError::OutOfStep { rank })?;
            add_received(&mut sums, shard, rank)?;
        }
        Ok(sums)
    }
}

impl Drop for ThreadRank {
    fn drop(&mut self) {
        self.shared.lock().lost = Some(self.rank);
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_gather_returns_every_rank_in_every_round() {
        on_threads(4, |group| {
            for round in 0..100_u8 {
                let gathered = group.all_gather(vec![group.rank() as u8, round]).unwrap();
                let expected: Vec<_> = (0..4).map(|rank| vec![rank, round]).collect();
                assert_eq!(gathered, expected);
            }
        });
    }

    #[test]
    fn sums_have_the_same_bits_on_all_ranks() {
        let sums = on_threads(4, |group| {
            let own = [1e8_f32, 1.0, -1e8, 0.5][group.rank()];
            let mut values = vec![own, own * 3.0];
            group.all_reduce(&mut values).unwrap();
            values
        });
        assert!(sums.iter().all(|sum| *sum == sums[0]));
        assert_eq!(sums[0][0], ((0.0 + 1e8_f32) + 1.0 - 1e8) + 0.5);
    }

    #[test]
    fn a_lost_rank_fails_all_others() {
        let mut ranks = thread_group(3);
        drop(ranks.pop());
        thread::scope(|scope| {
            for group in ranks {
                scope.spawn(move || {
                    assert!(matches!(group.all_gather(Vec::new()), Err(CollectiveError::RankLost { .. })));
                });
            }
        });
    }
}
