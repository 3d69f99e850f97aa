//! Ctrl-C and SIGTERM.
//!
//! After [`listen`], the first signal ends the process at once, unless a [`Resumable`] exists: work
//! that asks [`requested`] after each of its steps, and ends by itself with its progress saved. A
//! second signal always ends the process. In both cases unfinished files are removed first.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    sync::atomic::{AtomicI32, AtomicUsize, Ordering},
    thread::Builder,
};

use signal_hook::{
    consts::signal::{SIGINT, SIGTERM},
    low_level::pipe,
};

use crate::files;

/// Number of the signal that was received; 0 for none.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// Number of existing [`Resumable`]s.
static RESUMABLE: AtomicUsize = AtomicUsize::new(0);

/// A signal that asks the process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted by {}", self.name())]
pub struct Interrupt(i32);

impl Interrupt {
    /// Name of the signal, as users know it.
    pub fn name(self) -> &'static str {
        if self.0 == SIGINT { "Ctrl-C" } else { "SIGTERM" }
    }

    /// Exit code by which shells recognise the signal: 130 or 143.
    pub fn exit_code(self) -> u8 {
        128_u8.saturating_add(u8::try_from(self.0).unwrap_or_default())
    }
}

/// Returns the signal that asks the process to end, if one was received.
pub fn requested() -> Option<Interrupt> {
    match SIGNAL.load(Ordering::Relaxed) {
        0 => None,
        signal => Some(Interrupt(signal)),
    }
}

/// Returns an error if the process was asked to end.
pub fn check() -> Result<(), Interrupt> {
    requested().map_or(Ok(()), Err)
}

/// Work that asks [`requested`] after each of its steps. While it exists, the first signal does not
/// end the process.
#[derive(Debug)]
pub struct Resumable(());

impl Resumable {
    /// Begins such work.
    pub fn begin() -> Self {
        RESUMABLE.fetch_add(1, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for Resumable {
    fn drop(&mut self) {
        RESUMABLE.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Starts to listen to signals. `advice` says how to go on; it is printed when a signal ends the
/// process. Signals that the process was started to ignore, as by `nohup` or `&`, stay ignored.
pub fn listen(advice: &str) -> io::Result<()> {
    for signal in [SIGINT, SIGTERM].into_iter().filter(|signal| !is_ignored(*signal)) {
        let (mut received, sent) = UnixStream::pair()?;
        pipe::register(signal, sent)?;
        let advice = advice.to_owned();
        Builder::new().name("signals".to_owned()).spawn(move || {
            while received.read_exact(&mut [0]).is_ok() {
                on_signal(Interrupt(signal), &advice);
            }
        })?;
    }
    Ok(())
}

/// Returns true if the process ignores the signal: bits of `SigIgn`, proc_pid_status(5).
fn is_ignored(signal: i32) -> bool {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    ignored.is_some_and(|bits| bits >> (signal - 1) & 1 == 1)
}

fn on_signal(signal: Interrupt, advice: &str) {
    let is_first = SIGNAL.compare_exchange(0, signal.0, Ordering::SeqCst, Ordering::SeqCst).is_ok();
    let mut stderr = io::stderr();
    if is_first && RESUMABLE.load(Ordering::SeqCst) > 0 {
        let _ = writeln!(
            stderr,
            "{}: finishing the step and writing a checkpoint; repeat it to end at once",
            signal.name()
        );
        return;
    }
    files::remove_unfinished();
    let _ = writeln!(stderr, "{signal}; {advice}");
    // Without the destructors of libraries, which other threads still use.
    signal_hook::low_level::exit(signal.exit_code().into());
}
