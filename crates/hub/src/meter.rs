//! Shows how much of a download has arrived.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};
use prospect_core::progress::Progress;

const MEGABYTE: u64 = 1_000_000;

/// Progress over files that are fetched one after the other.
pub(crate) struct Meter {
    progress: Progress,
    /// Bytes of the files before the present one.
    before: AtomicU64,
    /// Megabytes shown so far.
    shown: AtomicU64,
}

impl Meter {
    /// Starts at nothing of `total` bytes.
    pub(crate) fn new(label: &str, total: u64) -> Arc<Self> {
        let progress = Progress::new(label, "MB", total.div_ceil(MEGABYTE));
        Arc::new(Self { progress, before: AtomicU64::new(0), shown: AtomicU64::new(0) })
    }

    /// Counts a file of `bytes` as there, whether it was fetched or found.
    pub(crate) fn finish(&self, bytes: u64) {
        self.before.fetch_add(bytes, Ordering::Relaxed);
        self.show(0);
    }

    fn show(&self, bytes_of_file: u64) {
        let arrived = (self.before.load(Ordering::Relaxed) + bytes_of_file) / MEGABYTE;
        let shown = self.shown.fetch_max(arrived, Ordering::Relaxed);
        if arrived > shown {
            self.progress.advance(arrived - shown, "");
        }
    }
}

impl ProgressHandler for Meter {
    fn on_progress(&self, event: &ProgressEvent) {
        match event {
            ProgressEvent::Download(DownloadEvent::Progress { files }) => {
                self.show(files.iter().map(|file| file.bytes_completed).sum());
            }
            ProgressEvent::Download(DownloadEvent::AggregateProgress { bytes_completed, .. }) => {
                self.show(*bytes_completed);
            }
            _ => {}
        }
    }
}
