//! Summaries of samples: mean, median, the `k` lowest and the distinct items, and the area under
//! the ROC curve.

/// Arithmetic mean; None without values.
///
/// ```
/// assert_eq!(prospect_core::sample::mean([1.0, 2.0, 6.0]), Some(3.0));
/// ```
pub fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut count = 0_usize;
    let sum = values.into_iter().inspect(|_| count += 1).sum::<f64>();
    (count > 0).then(|| sum / count as f64)
}

/// Median: the middle value, or the mean of the two middle ones; None without values.
///
/// ```
/// assert_eq!(prospect_core::sample::median([4.0, 1.0, 2.0, 9.0]), Some(3.0));
/// ```
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len().is_multiple_of(2) { f64::midpoint(values[middle - 1], upper) } else { upper })
}

/// Returns the `k` lowest of `items` in no particular order, and all of them if there are fewer.
/// Takes linear time.
///
/// ```
/// let mut lowest = prospect_core::sample::k_lowest(vec![7, 3, 9, 1], 2);
/// lowest.sort();
/// assert_eq!(lowest, [1, 3]);
/// ```
pub fn k_lowest<T: Ord>(mut items: Vec<T>, k: usize) -> Vec<T> {
    if k < items.len() {
        items.select_nth_unstable(k);
        items.truncate(k);
    }
    items
}

/// Distinct items, in the order of their first occurrence.
///
/// ```
/// assert_eq!(prospect_core::sample::unique([3, 1, 3]), [3, 1]);
/// ```
pub fn unique<T: PartialEq>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut unique = Vec::new();
    for item in items {
        if !unique.contains(&item) {
            unique.push(item);
        }
    }
    unique
}

/// Share of the other class that each score with a binary label is ranked right against: scores of
/// true labels should be larger. Ties count half. None without both labels, or if a score is not a
/// number.
///
/// The mean over either class is the area under the ROC curve.
pub fn placements(scored: &[(f64, bool)]) -> Option<Vec<f64>> {
    let sorted = |label: bool| {
        let of_label = scored.iter().filter(|(_, other)| *other == label);
        let mut scores: Vec<f64> = of_label.map(|(score, _)| *score).collect();
        scores.sort_by(f64::total_cmp);
        scores
    };
    let (up, down) = (sorted(true), sorted(false));
    if up.is_empty() || down.is_empty() || scored.iter().any(|(score, _)| score.is_nan()) {
        return None;
    }
    let placement = |&(score, label): &(f64, bool)| {
        let others = if label { &down } else { &up };
        let below = others.partition_point(|other| *other < score) as f64;
        let below_or_equal = others.partition_point(|other| *other <= score) as f64;
        let right = f64::midpoint(below, below_or_equal) / others.len() as f64;
        if label { right } else { 1.0 - right }
    };
    Some(scored.iter().map(placement).collect())
}

/// Area under the ROC curve: the probability that a random score with a true label is larger than
/// one with a false label, ties counting half. None as for [`placements`].
///
/// ```
/// let auc = prospect_core::sample::auc(&[(2.0, true), (1.0, false), (0.5, true), (0.0, false)]);
/// assert_eq!(auc, Some(0.75));
/// ```
pub fn auc(scored: &[(f64, bool)]) -> Option<f64> {
    let placements = placements(scored)?;
    mean(scored.iter().zip(placements).filter(|((_, label), _)| *label).map(|(_, placement)| placement))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_median_of_nothing_are_none() {
        assert_eq!((mean([]), median([])), (None, None));
        assert_eq!((mean([5.0]), median([5.0])), (Some(5.0), Some(5.0)));
    }

    #[test]
    fn median_ignores_order_and_outliers() {
        assert_eq!(median([9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([1e9, 2.0, 1.0, 0.0]), Some(1.5));
    }

    #[test]
    fn k_lowest_is_nested() {
        let items: Vec<u64> = (0..50).map(|item| item * 37 % 101).collect();
        let mut sorted = items.clone();
        sorted.sort_unstable();
        for k in 0..60 {
            let mut lowest = k_lowest(items.clone(), k);
            lowest.sort_unstable();
            assert_eq!(lowest, sorted[..k.min(50)]);
        }
    }
}
