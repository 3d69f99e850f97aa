//! Time by which missed heartbeats are counted.

use std::time::{Duration, Instant};

/// A monotonic clock.
#[derive(Debug, Clone)]
pub(super) enum Clock {
    /// Time since this instant.
    System(Instant),
    /// A clock that tests advance.
    #[cfg(test)]
    Manual(std::sync::Arc<std::sync::Mutex<Duration>>),
}

impl Clock {
    /// The system's clock, from now on.
    pub(super) fn system() -> Self {
        Self::System(Instant::now())
    }

    /// Returns the time since the clock was started.
    pub(super) fn now(&self) -> Duration {
        match self {
            Self::System(start) => start.elapsed(),
            #[cfg(test)]
            Self::Manual(now) => *now.lock().unwrap(),
        }
    }

    /// A clock that stands still.
    #[cfg(test)]
    pub(super) fn manual() -> Self {
        Self::Manual(std::sync::Arc::default())
    }

    /// Advances a manual clock and its clones.
    #[cfg(test)]
    pub(super) fn advance(&self, by: Duration) {
        match self {
            Self::System(_) => panic!("the system's clock advances by itself"),
            Self::Manual(now) => *now.lock().unwrap() += by,
        }
    }
}
