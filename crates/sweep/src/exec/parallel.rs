//! Parallel map with a thread pool for each item.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Applies `work` to every item, `jobs` items at a time, each with its share of the threads.
///
/// Items start in order, and results keep that order. After an error, items that have started end
/// and no more start.
///
/// Several runs with few threads each are faster than one run with all threads: threads of one run
/// wait for each other in every layer.
pub(super) fn parallel_map<T, R, E>(
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
        .map_err(|error| {
            std::io::Error::other(format!("cannot start {threads} threads for each of {jobs} runs: {error}"))
        })?;
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Result<R, E>>>> = Mutex::new(items.iter().map(|_| None).collect());
    let process_items = || {
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
            scope.spawn(|| pool.install(process_items));
        }
    });
    // Only an error skips items, and it comes before them.
    results.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn items_run_in_parallel_and_results_keep_their_order() {
        let both = Barrier::new(2);
        // Each item waits for the other, so one at a time would never end.
        let found: Result<Vec<usize>, std::io::Error> = parallel_map(2, &[10, 20], |item| {
            both.wait();
            Ok(item + 1)
        });
        assert_eq!(found.unwrap(), [11, 21]);
    }

    #[test]
    fn an_error_starts_no_more_items() {
        for jobs in [1, 3] {
            let started = AtomicUsize::new(0);
            let items: Vec<usize> = (0..1000).collect();
            let found: Result<Vec<()>, std::io::Error> = parallel_map(jobs, &items, |item| {
                started.fetch_add(1, Ordering::Relaxed);
                if *item == 5 { Err(std::io::Error::other("five")) } else { Ok(()) }
            });
            assert_eq!(found.unwrap_err().to_string(), "five");
            assert!(started.into_inner() < 1000, "{jobs}");
        }
    }
}
