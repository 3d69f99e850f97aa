//! A claim that this process holds.

use std::{
    io::Write,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread::{Builder, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use fs_err::File;

use super::{GIVEN_UP, is_taken_over};

/// A piece of work that is this process's own until the claim is dropped.
#[derive(Debug)]
pub struct Claim {
    shared: Arc<Shared>,
    /// Dropped, it ends the beats.
    end: Option<Sender<()>>,
    beats: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    number: u64,
    file: File,
    beat: Duration,
    last_beat: Mutex<Instant>,
    lost: AtomicBool,
}

impl Claim {
    pub(super) fn new(folder: PathBuf, number: u64, file: File, beat: Duration) -> std::io::Result<Self> {
        let last_beat = Mutex::new(Instant::now());
        let shared = Arc::new(Shared { folder, number, file, beat, last_beat, lost: AtomicBool::new(false) });
        let (end, ended) = channel();
        let of_beats = Arc::clone(&shared);
        let beats = Builder::new().name("heartbeat".to_owned()).spawn(move || {
            while matches!(ended.recv_timeout(of_beats.beat), Err(RecvTimeoutError::Timeout)) {
                of_beats.beat();
            }
        })?;
        Ok(Self { shared, end: Some(end), beats: Some(beats) })
    }

    /// Whether the work is still this process's own: it is not if the process stood still for so long that another one took
    /// it for gone.
    pub fn holds(&self) -> bool {
        let shared = &self.shared;
        let since = shared.last_beat.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        // Whoever took over has seen several beats stay away.
        if since > 2 * shared.beat {
            shared.look();
        }
        !shared.lost.load(Ordering::Relaxed)
    }

    /// Leaves the claim as a killed process does.
    #[cfg(test)]
    pub(super) fn stop_as_if_killed(mut self) {
        self.shared.lost.store(true, Ordering::Relaxed);
        self.end = None;
    }
}

impl Shared {
    fn beat(&self) {
        // A file system that does not answer is no reason to stop: others can tell no more than this process can.
        if self.file.file().set_modified(SystemTime::now()).is_ok() {
            *self.last_beat.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        self.look();
    }

    fn look(&self) {
        if is_taken_over(&self.folder, self.number).unwrap_or(false) {
            self.lost.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.end = None;
        if let Some(beats) = self.beats.take() {
            let _ = beats.join();
        }
        if !self.shared.lost.load(Ordering::Relaxed) {
            let mut file = &self.shared.file;
            let _ = file.write_all(GIVEN_UP.as_bytes());
        }
    }
}
