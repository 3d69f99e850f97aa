//! Lists, numbers and units of verdicts.

use prospect_runs::Measure;

/// Joins items: `a, b and c`.
pub(super) fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [others @ .., last] => format!("{} and {last}", others.join(", ")),
    }
}

pub(super) fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

pub(super) fn uncapitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

/// Removes the floating-point noise of a percentage.
pub(super) fn round(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}

/// Unit of a measure's differences.
pub(super) struct Unit {
    scale: f64,
    digits: usize,
    pub(super) name: &'static str,
}

impl Unit {
    pub(super) fn of(measure: Measure) -> Self {
        let (scale, digits, name) = match measure {
            Measure::Accuracy => (100.0, 1, " points"),
            Measure::Auc => (100.0, 1, " points of AUC"),
            Measure::Utility => (1.0, 2, ""),
        };
        Self { scale, digits, name }
    }

    pub(super) fn unsigned(&self, difference: f64) -> String {
        let digits = self.digits;
        format!("{:.digits$}", self.scale * difference).replace('-', "−")
    }

    pub(super) fn signed(&self, difference: f64) -> String {
        let digits = self.digits;
        format!("{:+.digits$}", self.scale * difference).replace('-', "−")
    }
}
