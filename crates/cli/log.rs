//! Status lines of the libraries (`tracing` events) on standard error.
//!
//! Plain lines by default; `-v` adds debug lines with their module, `-vv` traces. `RUST_LOG`
//! takes precedence.

use std::{fmt, io};

use prospect_core::visible::visible;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// Starts logging at the level given by `verbose` (the number of `-v`), `quiet` or `RUST_LOG`.
pub(crate) fn init(verbose: u8, quiet: bool) {
    let ours = match verbose {
        0 if quiet => "warn",
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    let default = format!("warn,prospect={ours}");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    // Fails only if a subscriber is already set; that one is then used.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .event_format(Plain)
        .try_init();
}

/// Format for people: plain information, marked warnings and errors, details with their module.
struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        match *metadata.level() {
            Level::INFO => {}
            Level::WARN => write!(writer, "warning: ")?,
            Level::ERROR => write!(writer, "error: ")?,
            level => write!(writer, "{} {}: ", level.as_str().to_lowercase(), metadata.target())?,
        }
        // Messages may quote untrusted files.
        let mut message = String::new();
        context.format_fields(Writer::new(&mut message), event)?;
        writeln!(writer, "{}", visible(&message))
    }
}
