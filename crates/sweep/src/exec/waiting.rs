//! Waiting for other processes.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use prospect_runs::Claims;

/// Time since there was nothing to do but wait for other processes.
#[derive(Default)]
pub(super) struct Waiting(Option<Instant>);

impl Waiting {
    pub(super) fn elapsed(&self) -> Duration {
        self.0.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Sleeps for one polling interval. The first call prints what is waited for, and whose it is.
    pub(super) fn wait(&mut self, claims: &Claims, what: &str) {
        if self.0.is_none() {
            let holders: Vec<String> =
                claims.held().unwrap_or_default().values().map(ToString::to_string).collect();
            let holders = if holders.is_empty() { "other processes".to_owned() } else { holders.join(", ") };
            tracing::info!("waiting for {what} of {holders}");
            self.0 = Some(Instant::now());
        }
        sleep(claims.pause());
    }
}
