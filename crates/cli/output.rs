//! Output of commands: data on standard output, where other programs can read it, and all else on
//! standard error.

use std::{
    io::{self, ErrorKind, Write},
    sync::atomic::{AtomicBool, Ordering},
};

/// Set by `--quiet`: status lines are not printed.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Turns status lines off or on.
pub(crate) fn set_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

/// Prints one line of data. A pipe that its reader has closed is not an error.
pub(crate) fn print(line: impl std::fmt::Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Prints a status line to standard error, unless `--quiet` is set. A closed standard error does
/// not stop the work.
pub(crate) fn say(line: impl AsRef<str>) {
    if !QUIET.load(Ordering::Relaxed) {
        let _ = writeln!(io::stderr(), "{}", line.as_ref());
    }
}

/// Prints a warning or an error to standard error, also under `--quiet`.
pub(crate) fn warn(line: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", line.as_ref());
}
