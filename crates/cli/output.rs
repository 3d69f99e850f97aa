//! Output of commands: data on standard output, where other programs can read it, and all else on
//! standard error.

use std::{
    io::{self, ErrorKind, IsTerminal, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use prospect_core::visible::visible;
use prospect_report::terminal::TerminalStyle;

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

/// Prints data whose lines end. A pipe that its reader has closed is not an error.
#[cfg_attr(not(feature = "query"), allow(dead_code, reason = "only answers of queries are long"))]
pub(crate) fn print_all(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Prints a status line to standard error, unless `--quiet` is set. Control characters are escaped,
/// because names and values may come from untrusted files. A closed standard error does not stop
/// the work.
pub(crate) fn say(line: impl AsRef<str>) {
    say_styled(visible(line.as_ref()));
}

/// Prints text with colours, whose untrusted parts are escaped already, to standard error, unless
/// `--quiet` is set.
pub(crate) fn say_styled(text: impl AsRef<str>) {
    if !QUIET.load(Ordering::Relaxed) {
        let _ = writeln!(io::stderr(), "{}", text.as_ref());
    }
}

/// Prints a warning or an error to standard error, also under `--quiet`, with control characters
/// escaped.
pub(crate) fn warn(line: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", visible(line.as_ref()));
}

/// Returns the style of plots on standard error: lines of text unless it is a terminal, and no
/// colours with `NO_COLOR`.
pub(crate) fn plot_style() -> TerminalStyle {
    let stderr = io::stderr();
    if !stderr.is_terminal() {
        return TerminalStyle::Plain;
    }
    let width = terminal_size::terminal_size_of(&stderr).map_or(80, |(width, _)| usize::from(width.0));
    TerminalStyle::Plot { width, is_coloured: colours() }
}

/// Returns false if the environment asks for no colours (`NO_COLOR`).
pub(crate) fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Returns a number with its noun: `1 run`, `2 runs`.
pub(crate) fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
