//! Standard output: what a pipe can use.

use std::io::{self, ErrorKind, Write};

/// Prints one line of data. A reader that has seen enough and closed the pipe is no failure.
pub(crate) fn print(line: impl std::fmt::Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
