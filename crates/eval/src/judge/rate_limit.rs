//! Rate limit of requests.

use std::{
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Spaces the starts of requests evenly, across threads.
#[derive(Debug)]
pub(super) struct RateLimiter {
    interval: Duration,
    next: Mutex<Option<Instant>>,
}

impl RateLimiter {
    /// Allows at most `per_minute` requests per minute; no limit if None.
    pub(super) fn new(per_minute: Option<u32>) -> Self {
        let interval = per_minute.map_or(Duration::ZERO, |rate| Duration::from_mins(1) / rate.max(1));
        Self { interval, next: Mutex::new(None) }
    }

    /// Blocks until the next request may start.
    pub(super) fn wait(&self) {
        if self.interval.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let start = next.map_or(now, |next| next.max(now));
        *next = Some(start + self.interval);
        drop(next);
        thread::sleep(start.saturating_duration_since(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_spaced() {
        let limiter = RateLimiter::new(Some(1200));
        let begun = Instant::now();
        thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| limiter.wait());
            }
        });
        assert!(begun.elapsed() >= Duration::from_millis(4 * 50));
    }
}
