//! Members that are threads of one process.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::{Collective, CollectiveError};

/// A thread's hold on its group.
#[derive(Debug)]
pub struct Thread {
    rank: usize,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// What members gave in this round.
    given: Vec<Option<Vec<u8>>>,
    /// What they gave in the last one, until all have taken it.
    taken: Arc<Vec<Vec<u8>>>,
    round: u64,
    gone: Option<usize>,
}

/// A group of `size` members for as many threads of this process, by rank.
pub fn threads(size: usize) -> Vec<Thread> {
    let state = State { given: vec![None; size], taken: Arc::default(), round: 0, gone: None };
    let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
    (0..size).map(|rank| Thread { rank, shared: Arc::clone(&shared) }).collect()
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collective for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.shared.lock().given.len()
    }

    fn gather(&self, given: Vec<u8>) -> Result<Vec<Vec<u8>>, CollectiveError> {
        let mut state = self.shared.lock();
        let round = state.round;
        state.given[self.rank] = Some(given);
        if state.given.iter().all(Option::is_some) {
            let all = state.given.iter_mut().filter_map(Option::take).collect();
            state.taken = Arc::new(all);
            state.round += 1;
            self.shared.changed.notify_all();
        }
        while state.round == round {
            if let Some(rank) = state.gone {
                return Err(CollectiveError::Gone { rank, why: String::new() });
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        // Nobody ends the next round before all have ended this one: it takes a gift of each.
        let taken = Arc::clone(&state.taken);
        drop(state);
        Ok(taken.as_ref().clone())
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.shared.lock().gone = Some(self.rank);
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn everybody_hears_everybody_round_after_round() {
        thread::scope(|scope| {
            for member in threads(4) {
                scope.spawn(move || {
                    for round in 0..100_u8 {
                        let heard = member.gather(vec![member.rank() as u8, round]).unwrap();
                        let expected: Vec<_> = (0..4).map(|rank| vec![rank, round]).collect();
                        assert_eq!(heard, expected);
                    }
                });
            }
        });
    }

    #[test]
    fn sums_are_the_same_bits_everywhere() {
        let sums: Vec<Vec<f32>> = thread::scope(|scope| {
            let sum = |member: Thread| {
                let own = [1e8_f32, 1.0, -1e8, 0.5][member.rank()];
                let mut values = vec![own, own * 3.0];
                member.sum(&mut values).unwrap();
                values
            };
            let all: Vec<_> = threads(4).into_iter().map(|member| scope.spawn(move || sum(member))).collect();
            all.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(sums.iter().all(|sum| *sum == sums[0]));
        assert_eq!(sums[0][0], ((0.0 + 1e8_f32) + 1.0 - 1e8) + 0.5);
    }

    #[test]
    fn one_that_ends_ends_all() {
        let mut members = threads(3);
        drop(members.pop());
        thread::scope(|scope| {
            for member in members {
                scope.spawn(move || {
                    assert!(matches!(member.gather(Vec::new()), Err(CollectiveError::Gone { .. })));
                });
            }
        });
    }
}
