//! Values of one metric over steps.

use prospect_core::sample;
use prospect_runs::{MetricsRecord, RecordKind};

/// Value of a metric at a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct MetricValue {
    pub(super) step: u64,
    pub(super) value: f64,
}

/// Value of a metric with the median of the values before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct WithMedian {
    pub(super) step: u64,
    pub(super) value: f64,
    /// Median of the preceding window.
    pub(super) median: f64,
}

/// Values of a metric in the order of steps.
pub(super) struct MetricSeries(Vec<MetricValue>);

impl MetricSeries {
    pub(super) fn new(records: &[MetricsRecord], kind: RecordKind, name: &str) -> Self {
        let values = records
            .iter()
            .filter(|record| record.kind == kind)
            .filter_map(|record| Some(MetricValue { step: record.step, value: *record.values.get(name)? }));
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

    /// Values with the median of up to `width` values before each. Starts at the first value that
    /// has `least` values before it.
    pub(super) fn with_median_before(&self, width: usize, least: usize) -> impl Iterator<Item = WithMedian> {
        (least..self.0.len()).map(move |index| {
            let window = &self.0[index.saturating_sub(width)..index];
            let MetricValue { step, value } = self.0[index];
            WithMedian { step, value, median: upper_median(window) }
        })
    }
}

/// Mean of the values; 0 without any.
pub(super) fn mean(values: &[MetricValue]) -> f64 {
    sample::mean(values.iter().map(|value| value.value)).unwrap_or(0.0)
}

/// Median that takes the larger of the two middle values, so that it is a value of the run.
fn upper_median(values: &[MetricValue]) -> f64 {
    let mut values: Vec<f64> = values.iter().map(|value| value.value).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
