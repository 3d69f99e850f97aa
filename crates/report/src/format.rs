//! Numbers and settings as text, with true minus signs and no-break spaces.

use prospect_runs::{Estimate, series_name};
use serde_json::Value;

/// Formats a share as a percentage: `63.2 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{}\u{a0}%", fixed(share * 100.0, 1))
}

/// Formats a tick of a percentage axis; `decimals` counts decimals of the share itself.
pub(crate) fn percent_tick(share: f64, decimals: usize) -> String {
    format!("{}\u{a0}%", fixed(share * 100.0, decimals.saturating_sub(2)))
}

/// Formats a difference of shares in signed percentage points: `+3.1 points`.
pub(crate) fn points(difference: f64) -> String {
    format!("{}\u{a0}points", signed_points(difference))
}

/// Formats a p-value with three decimals, or as `< 0.001`.
pub(crate) fn p_value(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { fixed(p, 3) }
}

/// Formats the interval of a share: `61.0 to 65.1 %`.
pub(crate) fn percent_interval(estimate: Estimate) -> String {
    format!("{} to {}", fixed(estimate.low * 100.0, 1), percent(estimate.high))
}

/// Formats a share with its interval: `63.2 % (61.0 to 65.1 %)`.
pub(crate) fn percent_estimate(estimate: Estimate) -> String {
    format!("{} ({})", percent(estimate.value), percent_interval(estimate))
}

/// Formats the interval of a difference of shares, in percentage points: `−0.4 to +2.0`.
pub(crate) fn points_interval(estimate: Estimate) -> String {
    format!("{} to {}", signed_points(estimate.low), signed_points(estimate.high))
}

/// Formats a difference with its sign: `+0.31`.
pub(crate) fn signed(difference: f64) -> String {
    let text = fixed(difference, 2);
    if text.starts_with('−') || text == "0.00" { text } else { format!("+{text}") }
}

/// Formats the interval of a difference: `−0.04 to +0.20`.
pub(crate) fn signed_interval(estimate: Estimate) -> String {
    format!("{} to {}", signed(estimate.low), signed(estimate.high))
}

/// Formats a difference of shares in percentage points without their name: `+3.1`.
pub(crate) fn signed_points(difference: f64) -> String {
    let text = fixed(difference * 100.0, 1);
    if text.starts_with('−') || text == "0.0" { text } else { format!("+{text}") }
}

/// Formats a number with `decimals` decimals, without a sign if it rounds to zero.
pub(crate) fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    if value < 0.0 && text.bytes().any(|byte| (b'1'..=b'9').contains(&byte)) {
        format!("−{text}")
    } else {
        text
    }
}

/// Formats a number with about three significant digits.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        "–".to_owned()
    } else if size != 0.0 && !(1e-3..1e6).contains(&size) {
        format!("{value:.2e}").replace('-', "−")
    } else {
        let digits = if size == 0.0 { 0.0 } else { size.log10().floor() };
        fixed(value, (2.0 - digits).clamp(0.0, 5.0) as usize)
    }
}

/// Formats a setting as written, without floating-point noise.
pub(crate) fn plain(value: f64) -> String {
    let text = format!("{value:.8}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if value != 0.0 && matches!(text, "0" | "-0") { number(value) } else { text.replace('-', "−") }
}

/// Formats a parameter count: `28k`, `135M`, `1.4B`.
pub(crate) fn parameter_count(parameters: u64) -> String {
    let (unit, letter) = match parameters {
        0..1_000 => return parameters.to_string(),
        1_000..1_000_000 => (1e3, 'k'),
        1_000_000..1_000_000_000 => (1e6, 'M'),
        _ => (1e9, 'B'),
    };
    let count = parameters as f64 / unit;
    format!("{}{letter}", fixed(count, usize::from(count < 9.95)))
}

/// Formats a duration: `42 s`, `3 min 5 s`, `2 h 10 min`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, _) if seconds < 10.0 => format!("{seconds:.1}\u{a0}s"),
        (0, 0, s) => format!("{s}\u{a0}s"),
        (0, min, s) => format!("{min}\u{a0}min {s}\u{a0}s"),
        (h, min, _) => format!("{h}\u{a0}h {min}\u{a0}min"),
    }
}

/// Formats a count with its noun: `1 seed`, `2 seeds`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Formats a JSON value on one line, strings without quotes, null as a dash.
pub(crate) fn setting(value: &Value) -> String {
    if value.is_null() { "–".to_owned() } else { series_name(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_formatted_for_readers() {
        assert_eq!(percent(0.632), "63.2\u{a0}%");
        assert_eq!(points(0.031), "+3.1\u{a0}points");
        assert_eq!(points(-0.031), "−3.1\u{a0}points");
        assert_eq!(points(-0.000_01), "0.0\u{a0}points");
        assert_eq!(number(0.0), "0.00");
        assert_eq!(number(12.345), "12.3");
        assert_eq!(number(-1234.5), "−1234");
        assert_eq!(number(0.000_012), "1.20e−5");
        assert_eq!(plain(0.29 * 100.0), "29");
        assert_eq!(plain(0.0), "0");
        assert_eq!(plain(1e-12), "1.00e−12");
        assert_eq!(
            [999, 27_900, 134_515_008, 1_414_647_808, 9_960_000_000, 70_000_000_000].map(parameter_count),
            ["999", "28k", "135M", "1.4B", "10B", "70B"]
        );
        assert_eq!(duration(7385.0), "2\u{a0}h 3\u{a0}min");
    }
}
