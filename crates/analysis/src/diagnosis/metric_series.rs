//! Values of one metric over steps.

use std::collections::BTreeMap;

use prospect_core::sample;
use prospect_runs::{MetricsRecord, RecordKind};

/// Value of a metric at a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct MetricValue {
    pub(super) step: u64,
    pub(super) value: f64,
}

/// Value of a metric far above those before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Jump {
    pub(super) step: u64,
    pub(super) value: f64,
    /// Third largest of the values before.
    pub(super) before: f64,
}

/// Number of values before a jump that it is compared with, and the fewest that suffice.
const BEFORE: [usize; 2] = [16, 50];
/// Rank of the value that a jump is compared with. The largest ones may be earlier jumps.
const RANK: usize = 3;

/// Values of a metric in the order of steps.
pub(super) struct MetricSeries(Vec<MetricValue>);

impl MetricSeries {
    pub(super) fn new(records: &[MetricsRecord], kind: RecordKind, name: &str) -> Self {
        Self::from_values(records, kind, |values| values.get(name).copied())
    }

    /// Values computed from the metrics of each step; steps without one are left out.
    pub(super) fn from_values(
        records: &[MetricsRecord],
        kind: RecordKind,
        value: impl Fn(&BTreeMap<String, f64>) -> Option<f64>,
    ) -> Self {
        let own = records.iter().filter(|record| record.kind == kind);
        let values =
            own.filter_map(|record| Some(MetricValue { step: record.step, value: value(&record.values)? }));
        Self(values.collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// First and last value; None if there are fewer than two.
    pub(super) fn ends(&self) -> Option<[MetricValue; 2]> {
        match self.0.as_slice() {
            [first, .., last] => Some([*first, *last]),
            _ => None,
        }
    }

    /// Last of `parts` equal parts.
    pub(super) fn last_part(&self, parts: usize) -> &[MetricValue] {
        let (_, last) = self.0.split_at(self.0.len() - self.0.len().div_ceil(parts));
        last
    }

    /// Last value.
    pub(super) fn last(&self) -> Option<MetricValue> {
        self.0.last().copied()
    }

    /// Values above `limit`, a function of the third largest value of those before.
    ///
    /// In a stationary run, whatever its distribution, a value exceeds the third largest of 50 in
    /// 6 % of the steps; the limit is a multiple of it.
    pub(super) fn jumps(&self, limit: impl Fn(f64) -> f64) -> Vec<Jump> {
        let [least, most] = BEFORE;
        let at = |index: usize| {
            let MetricValue { step, value } = self.0[index];
            let window = &self.0[index.saturating_sub(most)..index];
            let mut values: Vec<f64> = window.iter().map(|value| value.value).collect();
            values.sort_by(|a, b| b.total_cmp(a));
            let before = values.get(RANK - 1).copied()?;
            (value > limit(before)).then_some(Jump { step, value, before })
        };
        (least..self.0.len()).filter_map(at).collect()
    }
}

/// Mean of the values; 0 without any.
pub(super) fn mean(values: &[MetricValue]) -> f64 {
    sample::mean(values.iter().map(|value| value.value)).unwrap_or(0.0)
}
