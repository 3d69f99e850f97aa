//! Waits between attempts at a request.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// Longest wait that a server's `Retry-After` can ask for.
const LONGEST: Duration = Duration::from_mins(10);

/// Exponential backoff with jitter, so that clients that failed together do not return together.
#[derive(Debug, Clone)]
pub struct Backoff {
    initial: Duration,
    attempts: u32,
    failures: u32,
}

impl Backoff {
    /// Allows `attempts` consecutive failures. The wait after the first is `initial`, give or take a
    /// half, and doubles with each further one.
    pub fn new(initial: Duration, attempts: u32) -> Self {
        Self { initial, attempts, failures: 0 }
    }

    /// Counts a failure. Returns the wait before the next attempt, at least `asked` by the server
    /// (up to ten minutes), or None after the last.
    pub fn wait(&mut self, asked: Option<Duration>) -> Option<Duration> {
        self.failures += 1;
        if self.failures >= self.attempts {
            return None;
        }
        let doubled = self.initial.saturating_mul(1 << (self.failures - 1).min(20)).min(LONGEST);
        // Randomly seeded, unlike the keyed draws of results.
        let random = RandomState::new().hash_one(self.failures) as f64 / u64::MAX as f64;
        let jittered = doubled.mul_f64(0.5 + random);
        Some(jittered.max(asked.unwrap_or_default().min(LONGEST)))
    }

    /// Forgets earlier failures, after progress.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Reads a `Retry-After` header in seconds. Its other form, a date, gives None.
pub fn retry_after(header: &str) -> Option<Duration> {
    let seconds = header.trim().parse::<f64>().ok().filter(|seconds| *seconds >= 0.0)?;
    Duration::try_from_secs_f64(seconds.min(LONGEST.as_secs_f64())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_with_jitter_and_end() {
        let initial = Duration::from_millis(100);
        let mut backoff = Backoff::new(initial, 4);
        for doubled in [1, 2, 4] {
            let wait = backoff.wait(None).unwrap();
            assert!(wait >= initial * doubled / 2 && wait <= initial * doubled * 3 / 2, "{wait:?}");
        }
        assert_eq!(backoff.wait(None), None);
        backoff.reset();
        assert!(backoff.wait(None).is_some());
    }

    #[test]
    fn a_server_can_ask_for_a_longer_wait() {
        let mut backoff = Backoff::new(Duration::from_millis(1), 9);
        assert_eq!(backoff.wait(Some(Duration::from_secs(7))), Some(Duration::from_secs(7)));
        assert_eq!(backoff.wait(Some(Duration::MAX)), Some(LONGEST));
        assert_eq!(retry_after(" 1.5 "), Some(Duration::from_millis(1500)));
        assert_eq!(retry_after("1e300"), Some(LONGEST));
        for unreadable in ["-1", "NaN", "Wed, 21 Oct 2026 07:28:00 GMT", ""] {
            assert_eq!(retry_after(unreadable), None, "{unreadable}");
        }
    }
}
