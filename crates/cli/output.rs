//! Output of commands: data on standard output, where other programs can read it, and all else on
//! standard error.

use std::io::{self, ErrorKind, Write};

/// Prints one line of data. A pipe that its reader has closed is not an error.
pub(crate) fn print(line: impl std::fmt::Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Prints a status line to standard error. A closed standard error does not stop the work.
pub(crate) fn say(line: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", line.as_ref());
}
