//! A metric over steps.

use prospect_runs::{Kind, Record};

/// Values of a metric with their steps.
pub(super) struct Series(Vec<(u64, f64)>);

impl Series {
    pub(super) fn of(records: &[Record], kind: Kind, name: &str) -> Self {
        let of_kind = records.iter().filter(|record| record.kind == kind);
        Self(of_kind.filter_map(|record| Some((record.step, *record.values.get(name)?))).collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// First and last, if they are two.
    pub(super) fn ends(&self) -> Option<[(u64, f64); 2]> {
        match self.0.as_slice() {
            [first, .., last] => Some([*first, *last]),
            _ => None,
        }
    }

    /// The last of `parts` equal parts.
    pub(super) fn last_part(&self, parts: usize) -> &[(u64, f64)] {
        let (_, last) = self.0.split_at(self.0.len() - self.0.len().div_ceil(parts));
        last
    }

    /// The values with the median of up to `width` values before each, from the one on that has `least` before it.
    pub(super) fn with_median_before(
        &self,
        width: usize,
        least: usize,
    ) -> impl Iterator<Item = (u64, f64, f64)> {
        (least..self.0.len()).map(move |index| {
            let before: Vec<f64> =
                self.0[index.saturating_sub(width)..index].iter().map(|(_, value)| *value).collect();
            let (step, value) = self.0[index];
            (step, value, median(before))
        })
    }
}

pub(super) fn mean(values: &[(u64, f64)]) -> f64 {
    values.iter().map(|(_, value)| value).sum::<f64>() / values.len().max(1) as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
