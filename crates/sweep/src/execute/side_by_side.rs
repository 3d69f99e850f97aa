//! Work on several items at once.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use rayon::{ThreadPool, ThreadPoolBuilder};

/// What `work` makes of every item, `jobs` of them at a time, each on its share of the threads. Items are begun in order; an
/// error lets those that were begun end and begins no more.
///
/// A run on one thread never waits for another thread, while one run on all of them does so in every layer.
pub(super) fn side_by_side<T, R, E>(
    jobs: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E>
where
    T: Sync,
    R: Send,
    E: Send + From<std::io::Error>,
{
    let jobs = jobs.min(items.len());
    if jobs <= 1 {
        return items.iter().map(work).collect();
    }
    let threads = (rayon::current_num_threads() / jobs).max(1);
    let pools: Vec<ThreadPool> = (0..jobs)
        .map(|_| ThreadPoolBuilder::new().num_threads(threads).build())
        .collect::<Result<_, _>>()
        .map_err(std::io::Error::other)?;
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Result<R, E>>>> = Mutex::new(items.iter().map(|_| None).collect());
    let one_after_the_other = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { break };
            let result = work(item);
            if result.is_err() {
                next.store(items.len(), Ordering::Relaxed);
            }
            results.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(result);
        }
    };
    std::thread::scope(|scope| {
        for pool in &pools {
            scope.spawn(|| pool.install(one_after_the_other));
        }
    });
    // Only an error leaves items out, and it stands before them.
    results.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn items_are_worked_on_together_and_come_back_in_order() {
        let both = Barrier::new(2);
        // Each waits for the other: one at a time would never end.
        let found: Result<Vec<usize>, std::io::Error> = side_by_side(2, &[10, 20], |item| {
            both.wait();
            Ok(item + 1)
        });
        assert_eq!(found.unwrap(), [11, 21]);
    }

    #[test]
    fn an_error_ends_the_work() {
        for jobs in [1, 3] {
            let begun = AtomicUsize::new(0);
            let items: Vec<usize> = (0..1000).collect();
            let found: Result<Vec<()>, std::io::Error> = side_by_side(jobs, &items, |item| {
                begun.fetch_add(1, Ordering::Relaxed);
                if *item == 5 { Err(std::io::Error::other("five")) } else { Ok(()) }
            });
            assert_eq!(found.unwrap_err().to_string(), "five");
            assert!(begun.into_inner() < 1000, "{jobs}");
        }
    }
}
