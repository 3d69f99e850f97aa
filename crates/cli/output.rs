//! Standard output, for data that other programs can read.

use std::io::{self, ErrorKind, Write};

/// Prints one line of data. A pipe that its reader has closed is not an error.
pub(crate) fn print(line: impl std::fmt::Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
