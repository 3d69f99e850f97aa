//! Points in time: ISO 8601 text and epoch numbers to microseconds.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Point in time, in microseconds since 1970-01-01 UTC. Displayed in ISO 8601.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Timestamp(i64);

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

impl Timestamp {
    /// Parses ISO 8601 text, such as `2024-05-01` or `2024-05-01T12:30:00.5+02:00`, or an epoch
    /// number. A time without an offset is in UTC.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        match text.parse() {
            Ok(number) => Self::from_number(number),
            Err(_) => iso(text).map(Self),
        }
    }

    /// Converts the time since 1970 in seconds, milliseconds, microseconds or nanoseconds. The
    /// magnitude determines the unit: seconds stay below 10^11 until the year 5138, and
    /// milliseconds are above it since 1973. Numbers such as 20240501 are dates.
    pub(crate) fn from_number(number: f64) -> Option<Self> {
        if let Some(days) = compact_date(number) {
            return Some(Self(days * DAY));
        }
        let micros = match number.abs() {
            size if size < 1e11 => number * 1e6,
            size if size < 1e14 => number * 1e3,
            size if size < 1e17 => number,
            size if size < 1e20 => number / 1e3,
            _ => return None,
        };
        Some(Self(micros.round() as i64))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, rest) = (self.0.div_euclid(DAY), self.0.rem_euclid(DAY));
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (rest / HOUR, rest % HOUR / MINUTE, rest % MINUTE / SECOND);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        match rest % SECOND {
            0 => f.write_str("Z"),
            micros => write!(f, ".{micros:06}Z"),
        }
    }
}

/// Returns the days of a number whose eight digits are a date. As seconds they would be in 1970.
fn compact_date(number: f64) -> Option<i64> {
    if number.fract() != 0.0 || !(19_000_101.0..=20_991_231.0).contains(&number) {
        return None;
    }
    let digits = number as i64;
    days(digits / 10_000, digits / 100 % 100, digits % 100)
}

fn iso(text: &str) -> Option<i64> {
    let mut rest = IsoReader(text);
    let year = rest.digits(4)?;
    rest.need('-')?;
    let month = rest.digits(2)?;
    rest.need('-')?;
    let mut micros = days(year, month, rest.digits(2)?)? * DAY;
    if rest.skip(&['T', 't', ' ']) {
        micros += rest.time_of_day()? - rest.offset()?;
    }
    rest.0.is_empty().then_some(micros)
}

/// Rest of a text in ISO 8601.
struct IsoReader<'a>(&'a str);

impl IsoReader<'_> {
    fn digits(&mut self, count: usize) -> Option<i64> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        head.bytes().all(|byte| byte.is_ascii_digit()).then(|| head.parse().ok())?
    }

    fn skip(&mut self, any: &[char]) -> bool {
        self.0.strip_prefix(any).is_some_and(|rest| {
            self.0 = rest;
            true
        })
    }

    fn need(&mut self, sign: char) -> Option<()> {
        self.skip(&[sign]).then_some(())
    }

    fn time_of_day(&mut self) -> Option<i64> {
        let hour = self.digits(2).filter(|hour| *hour < 24)?;
        self.need(':')?;
        let minute = self.digits(2).filter(|minute| *minute < 60)?;
        let mut micros = hour * HOUR + minute * MINUTE;
        if self.skip(&[':']) {
            // A leap second is second 60.
            micros += self.digits(2).filter(|second| *second <= 60)? * SECOND;
            if self.skip(&['.', ',']) {
                let end = self.0.find(|sign: char| !sign.is_ascii_digit()).unwrap_or(self.0.len());
                let (fraction, rest) = self.0.split_at(end);
                self.0 = rest;
                let digits = format!("{:0<6}", fraction.get(..6).unwrap_or(fraction));
                micros += digits.parse::<i64>().ok().filter(|_| !fraction.is_empty())?;
            }
        }
        Some(micros)
    }

    /// Returns the offset from UTC: `Z`, `UTC`, `+02`, `+0200`, `+02:00` or nothing.
    fn offset(&mut self) -> Option<i64> {
        self.0 = self.0.trim_start();
        if let Some(rest) = self.0.strip_prefix("UTC") {
            self.0 = rest;
            return Some(0);
        }
        if self.0.is_empty() || self.skip(&['Z', 'z']) {
            return Some(0);
        }
        let sign = if self.skip(&['+']) { 1 } else { -1 };
        if sign < 0 {
            // U+2212 is the minus sign that ISO 8601 prefers.
            self.skip(&['-', '\u{2212}']).then_some(())?;
        }
        let hours = self.digits(2).filter(|hours| *hours < 24)?;
        let minutes = if self.skip(&[':']) || !self.0.is_empty() { self.digits(2)? } else { 0 };
        (minutes < 60).then_some(sign * (hours * HOUR + minutes * MINUTE))
    }
}

/// Returns the days from 1970-01-01 to a date of the proleptic Gregorian calendar, or None if there
/// is no such date. Algorithm `days_from_civil` of Howard Hinnant's "chrono-compatible low-level
/// date algorithms".
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted - 400 * era;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = 146_097 * era + day_of_era - 719_468;
    (civil(days) == (year, month, day)).then_some(days)
}

/// Returns year, month and day. Algorithm `civil_from_days` of the same source.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days - 146_097 * era;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + 400 * era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_notation_of_a_time_is_the_same_time() {
        let expected = Timestamp(1_714_559_400_500_000);
        for text in [
            "2024-05-01T10:30:00.5Z",
            "2024-05-01T10:30:00.500000",
            "2024-05-01 12:30:00.500000000+02:00",
            "2024-05-01t12:30:00,5+0200",
            "2024-05-01 12:30:00.5 +02",
            "2024-05-01T07:00:00.5-03:30",
            " 2024-05-01 10:30:00.5 UTC ",
            "1714559400.5",
            "1714559400500",
            "1714559400500000",
            "1714559400500000000",
        ] {
            assert_eq!(Timestamp::from_text(text), Some(expected), "{text}");
        }
        assert_eq!(expected.to_string(), "2024-05-01T10:30:00.500000Z");
    }

    #[test]
    fn dates_are_midnight_and_leap_years_are_known() {
        for (text, shown) in [
            ("2024-02-29", Some("2024-02-29T00:00:00Z")),
            ("20240229", Some("2024-02-29T00:00:00Z")),
            ("1969-12-31T23:59", Some("1969-12-31T23:59:00Z")),
            ("0", Some("1970-01-01T00:00:00Z")),
            ("-1", Some("1969-12-31T23:59:59Z")),
            ("20240230", Some("1970-08-23T06:17:10Z")),
            ("2023-02-29", None),
            ("2024-13-01", None),
            ("2024-00-10", None),
            ("1900-02-29", None),
        ] {
            assert_eq!(Timestamp::from_text(text).map(|time| time.to_string()).as_deref(), shown, "{text}");
        }
    }

    #[test]
    fn other_notations_are_never_guessed() {
        for text in [
            "",
            "yesterday",
            "01/05/2024",
            "2024-5-1",
            "2024-05-01T",
            "2024-05-01T10",
            "2024-05-01T25:00",
            "2024-05-01T10:61",
            "2024-05-01T10:30:61",
            "2024-05-01T10:30:00.Z",
            "2024-05-01T10:30:00+2",
            "2024-05-01T10:30:00 CEST",
            "2024-05-01x",
            "inf",
            "NaN",
            "1e30",
            "2024-05-0é",
        ] {
            assert_eq!(Timestamp::from_text(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(micros in -62_135_596_800_000_000i64..253_402_300_800_000_000) {
            let time = Timestamp(micros);
            prop_assert_eq!(Timestamp::from_text(&time.to_string()), Some(time));
        }

        #[test]
        fn any_text_is_a_time_or_not(text in "\\PC{0,30}|[-0-9T:.+Z ]{0,30}") {
            let _ = Timestamp::from_text(&text);
        }
    }
}
