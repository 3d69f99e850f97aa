//! No more requests than an endpoint allows.

use std::{
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Lets requests begin at a steady pace, whoever sends them.
#[derive(Debug)]
pub(super) struct Pace {
    between: Duration,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    /// At most `per_minute` requests a minute; any number without.
    pub(super) fn new(per_minute: Option<u32>) -> Self {
        let between = per_minute.map_or(Duration::ZERO, |rate| Duration::from_mins(1) / rate.max(1));
        Self { between, next: Mutex::new(None) }
    }

    /// Returns when the next request may begin.
    pub(super) fn wait(&self) {
        if self.between.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = next.map_or(now, |next| next.max(now));
        *next = Some(turn + self.between);
        drop(next);
        thread::sleep(turn.saturating_duration_since(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_keep_their_distance() {
        let pace = Pace::new(Some(1200));
        let begun = Instant::now();
        thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| pace.wait());
            }
        });
        assert!(begun.elapsed() >= Duration::from_millis(4 * 50));
    }
}
