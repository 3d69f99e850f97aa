//! Length statistics with exact quantiles: each distinct length is counted.

use std::collections::BTreeMap;

use serde::Serialize;

/// Counts of each length. Serialised as count, mean and quantiles.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(into = "LengthStatistics")]
pub struct Lengths {
    times: BTreeMap<usize, u64>,
}

/// Summary statistics of lengths.
#[derive(Debug, Serialize)]
struct LengthStatistics {
    count: u64,
    mean: f64,
    min: usize,
    median: usize,
    p95: usize,
    max: usize,
}

impl From<Lengths> for LengthStatistics {
    fn from(lengths: Lengths) -> Self {
        let [min, median, p95, max] = [0.0, 0.5, 0.95, 1.0].map(|share| lengths.quantile(share).unwrap_or(0));
        Self { count: lengths.count(), mean: lengths.mean().unwrap_or(0.0), min, median, p95, max }
    }
}

impl Lengths {
    /// Counts a length that occurs `times` times.
    pub fn add(&mut self, length: usize, times: u64) {
        *self.times.entry(length).or_default() += times;
    }

    /// Returns the number of counted lengths.
    pub fn count(&self) -> u64 {
        self.times.values().sum()
    }

    /// Returns the mean, or None if there are no lengths.
    pub fn mean(&self) -> Option<f64> {
        let total: f64 = self.times.iter().map(|(length, times)| *length as f64 * *times as f64).sum();
        (!self.times.is_empty()).then(|| total / self.count() as f64)
    }

    /// Returns the smallest length that at least `share` of all lengths don't exceed, or None if
    /// there are no lengths.
    pub fn quantile(&self, share: f64) -> Option<usize> {
        let rank = ((share * self.count() as f64).ceil() as u64).max(1);
        let mut seen = 0;
        self.times
            .iter()
            .find(|(_, times)| {
                seen += **times;
                seen >= rank
            })
            .or_else(|| self.times.last_key_value())
            .map(|(length, _)| *length)
    }
}

/// Histogram of several series of lengths over shared bins of equal width. The last bin also counts
/// everything longer, so that a few very long texts don't compress the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LengthHistogram {
    /// Width of a bin: 1, 2, 5, 10, …
    pub width: usize,
    /// True if the last bin counts lengths beyond its end.
    pub open: bool,
    /// Count in each bin, for each series; the first bin begins at 0.
    pub counts: Vec<Vec<u64>>,
}

/// Maximum number of bins up to the 99th percentile.
const BINS: usize = 24;

impl LengthHistogram {
    /// Counts series of lengths in shared bins.
    pub fn new(series: &[&Lengths]) -> Self {
        let most = |share| series.iter().filter_map(|lengths| lengths.quantile(share)).max().unwrap_or(0);
        let (usual, longest) = (most(0.99), most(1.0));
        let width = round_width(usual / BINS + 1);
        let bins = usual / width + 1;
        let counts = series.iter().map(|lengths| {
            let mut counts = vec![0; bins];
            for (length, times) in &lengths.times {
                counts[(length / width).min(bins - 1)] += times;
            }
            counts
        });
        Self { width, open: longest >= bins * width, counts: counts.collect() }
    }
}

/// Returns the smallest of 1, 2, 5, 10, 20, … that is at least `width`.
fn round_width(width: usize) -> usize {
    let mut power = 1;
    loop {
        if let Some(round) = [1, 2, 5].map(|digit| digit * power).into_iter().find(|round| *round >= width) {
            return round;
        }
        power *= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lengths(of: &[usize]) -> Lengths {
        let mut lengths = Lengths::default();
        for length in of {
            lengths.add(*length, 1);
        }
        lengths
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_the_sorted_list(mut list in prop::collection::vec(0usize..50, 1..40), share in 0.0..=1.0f64) {
            let quantile = lengths(&list).quantile(share).unwrap();
            list.sort_unstable();
            let rank = (share * list.len() as f64).ceil().max(1.0) as usize;
            prop_assert_eq!(quantile, list[rank - 1]);
        }

        #[test]
        fn a_histogram_loses_nothing(a in prop::collection::vec(0usize..5000, 0..60), b in prop::collection::vec(0usize..9, 0..9)) {
            let histogram = LengthHistogram::new(&[&lengths(&a), &lengths(&b)]);
            let totals: Vec<u64> = histogram.counts.iter().map(|counts| counts.iter().sum()).collect();
            prop_assert_eq!(totals, [a.len() as u64, b.len() as u64]);
            prop_assert!(histogram.counts[0].len() <= BINS + 1);
        }
    }

    #[test]
    fn the_tail_goes_to_the_last_bin() {
        let mut list: Vec<usize> = (0..200).collect();
        list.push(1_000_000);
        let histogram = LengthHistogram::new(&[&lengths(&list)]);
        assert_eq!((histogram.width, histogram.open), (10, true));
        assert_eq!(histogram.counts, [[vec![10; 19], vec![11]].concat()]);
        assert_eq!(LengthHistogram::new(&[&lengths(&[])]).counts, [[0]]);
    }

    #[test]
    fn a_few_numbers_stand_for_the_lengths() {
        let json = serde_json::to_value(lengths(&[3, 1, 8])).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"count": 3, "mean": 4.0, "min": 1, "median": 3, "p95": 8, "max": 8})
        );
        assert_eq!(serde_json::to_value(lengths(&[])).unwrap()["count"], 0);
    }
}
