//! Group whose ranks are threads of one process.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

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

/// Creates a group of `world_size` ranks, one for each of as many threads, by rank.
pub fn thread_group(world_size: usize) -> Vec<ThreadRank> {
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
    use std::thread;

    use super::*;

    #[test]
    fn all_gather_returns_every_rank_in_every_round() {
        thread::scope(|scope| {
            for group in thread_group(4) {
                scope.spawn(move || {
                    for round in 0..100_u8 {
                        let gathered = group.all_gather(vec![group.rank() as u8, round]).unwrap();
                        let expected: Vec<_> = (0..4).map(|rank| vec![rank, round]).collect();
                        assert_eq!(gathered, expected);
                    }
                });
            }
        });
    }

    #[test]
    fn sums_have_the_same_bits_on_all_ranks() {
        let sums: Vec<Vec<f32>> = thread::scope(|scope| {
            let sum = |group: ThreadRank| {
                let own = [1e8_f32, 1.0, -1e8, 0.5][group.rank()];
                let mut values = vec![own, own * 3.0];
                group.all_reduce(&mut values).unwrap();
                values
            };
            let all: Vec<_> =
                thread_group(4).into_iter().map(|group| scope.spawn(move || sum(group))).collect();
            all.into_iter().map(|thread| thread.join().unwrap()).collect()
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
