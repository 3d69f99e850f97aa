//! A claim held by this process.

use std::{
    io::{ErrorKind, Write},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread::{Builder, JoinHandle},
    time::{Duration, SystemTime},
};

use fs_err::File;

use super::{RELEASED, clock::Clock, numbers};

/// Exclusive right to a piece of work, released on drop.
#[derive(Debug)]
pub struct Claim {
    heartbeat: Arc<Heartbeat>,
    /// Ends the heartbeat thread when dropped.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// State shared with the heartbeat thread.
#[derive(Debug)]
struct Heartbeat {
    folder: PathBuf,
    number: u64,
    file: File,
    interval: Duration,
    clock: Clock,
    /// Time of the last heartbeat by `clock`.
    last_beat: Mutex<Duration>,
    lost: AtomicBool,
}

impl Claim {
    pub(super) fn new(
        folder: PathBuf,
        number: u64,
        file: File,
        interval: Duration,
        clock: Clock,
    ) -> std::io::Result<Self> {
        let last_beat = Mutex::new(clock.now());
        let lost = AtomicBool::new(false);
        let heartbeat = Arc::new(Heartbeat { folder, number, file, interval, clock, last_beat, lost });
        let (end, ended) = channel();
        let in_thread = Arc::clone(&heartbeat);
        let thread = Builder::new().name("heartbeat".to_owned()).spawn(move || {
            while matches!(ended.recv_timeout(in_thread.interval), Err(RecvTimeoutError::Timeout)) {
                in_thread.beat();
            }
        });
        let thread = thread.map_err(|error| {
            std::io::Error::other(format!("cannot start the thread of heartbeats: {error}"))
        })?;
        Ok(Self { heartbeat, end: Some(end), thread: Some(thread) })
    }

    /// Returns true if this process still holds the claim. A process that was suspended for long
    /// loses it to another one.
    pub fn holds(&self) -> bool {
        let heartbeat = &self.heartbeat;
        let last_beat = *heartbeat.last_beat.lock().unwrap_or_else(PoisonError::into_inner);
        let since = heartbeat.clock.now().saturating_sub(last_beat);
        // Only a claim with several missed heartbeats can have been taken over.
        if since > 2 * heartbeat.interval {
            heartbeat.check();
        }
        !heartbeat.lost.load(Ordering::Relaxed)
    }

    /// Like [`holds`](Self::holds), but looks at the files now. For the last moment before a result
    /// becomes final.
    pub fn still_holds(&self) -> bool {
        self.heartbeat.check();
        !self.heartbeat.lost.load(Ordering::Relaxed)
    }

    /// Sends a heartbeat now.
    #[cfg(test)]
    pub(super) fn beat(&self) {
        self.heartbeat.beat();
    }

    /// Leaves the claim unreleased, as a killed process does.
    #[cfg(test)]
    pub(super) fn stop_as_if_killed(mut self) {
        self.heartbeat.lost.store(true, Ordering::Relaxed);
        self.end = None;
    }
}

impl Heartbeat {
    /// Sets the file's modification time, and checks that the claim has not been lost.
    fn beat(&self) {
        // An unresponsive file system is no reason to stop: other processes cannot see more of it.
        if self.file.file().set_modified(SystemTime::now()).is_ok() {
            *self.last_beat.lock().unwrap_or_else(PoisonError::into_inner) = self.clock.now();
        }
        self.check();
    }

    /// Marks the claim as lost if there is a newer one, or if somebody removed its file.
    fn check(&self) {
        let is_lost = match numbers(&self.folder) {
            Ok(numbers) => numbers.last() != Some(&self.number),
            Err(error) => error.kind() == ErrorKind::NotFound,
        };
        if is_lost {
            self.lost.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if !self.heartbeat.lost.load(Ordering::Relaxed) {
            let mut file = &self.heartbeat.file;
            let _ = file.write_all(RELEASED.as_bytes());
        }
    }
}
