//! Progress on standard error: a bar with rate and remaining time on a terminal, plain lines
//! elsewhere.

use std::{
    io::{self, IsTerminal},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::visible::visible;

/// Progress display of one task.
pub struct Progress {
    label: String,
    /// Total number of units, if known.
    total: Option<u64>,
    started: Instant,
    done: AtomicU64,
    next_line: AtomicU64,
    bar: Option<ProgressBar>,
}

/// Seconds between plain lines.
const LINE_EVERY: u64 = 10;

impl Progress {
    /// Starts a display for `total` units of `unit`.
    pub fn new(label: &str, unit: &str, total: u64) -> Self {
        Self::start(label, unit, Some(total))
    }

    /// Starts a display for an unknown number of units of `unit`.
    pub fn open_ended(label: &str, unit: &str) -> Self {
        Self::start(label, unit, None)
    }

    /// Creates a display that shows nothing.
    pub fn hidden() -> Self {
        Self {
            label: String::new(),
            total: None,
            started: Instant::now(),
            done: AtomicU64::new(0),
            next_line: AtomicU64::new(u64::MAX),
            bar: None,
        }
    }

    fn start(label: &str, unit: &str, total: Option<u64>) -> Self {
        let shown = io::stderr().is_terminal() && tracing::enabled!(tracing::Level::INFO);
        let bar = shown.then(|| {
            let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            let template = if total.is_some() {
                format!("{{prefix}} [{{bar:30}}] {{pos}}/{{len}} {unit}, {{per_sec}}, {{eta}} left {{msg}}")
            } else {
                format!("{{prefix}} {{spinner}} {{pos}} {unit}, {{per_sec}} {{msg}}")
            };
            if let Ok(style) = ProgressStyle::with_template(&template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(visible(label).into_owned());
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        Self {
            label: format!("{label} ({unit})"),
            total,
            started: Instant::now(),
            done: AtomicU64::new(0),
            next_line: AtomicU64::new(LINE_EVERY),
            bar,
        }
    }

    /// Counts `units` more as done; `message` is shown next to the count.
    pub fn advance(&self, units: u64, message: &str) {
        let done = self.done.fetch_add(units, Ordering::Relaxed) + units;
        if let Some(bar) = &self.bar {
            bar.set_message(visible(message).into_owned());
            bar.inc(units);
            return;
        }
        let elapsed = self.started.elapsed().as_secs();
        let next = self.next_line.load(Ordering::Relaxed);
        if elapsed >= next {
            self.next_line.store(elapsed + LINE_EVERY, Ordering::Relaxed);
            let seconds = self.started.elapsed().as_secs_f64();
            let label = &self.label;
            if let Some(total) = self.total {
                let left = total.saturating_sub(done) as f64 * seconds / done.max(1) as f64;
                tracing::info!("{label}: {done}/{total}, about {left:.0} s left {message}");
            } else {
                tracing::info!("{label}: {done}, {:.0} per second {message}", done as f64 / seconds);
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
