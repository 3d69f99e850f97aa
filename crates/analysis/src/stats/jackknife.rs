//! Jackknife over clusters.

use std::collections::BTreeMap;

use super::Observation;

/// Returns the jackknife pseudo-values of a statistic of `rows`, one observation for each cluster;
/// None if the statistic of all rows, or of the rows without one cluster, is undefined.
///
/// The pseudo-value of a cluster is n·θ − (n − 1)·θ₋, where θ₋ is the statistic without the
/// cluster's rows and n the number of clusters (Tukey, 1958). Their mean is the statistic,
/// corrected for bias; their variance gives its interval. With one list of observations for each
/// seed, [`estimate`](super::estimate) and [`contrast`](super::contrast) therefore treat an AUC, a
/// Brier score or a ratio like an accuracy: clustered, and paired between methods by seed and
/// cluster. Use [`Scale::Range`](super::Scale) or [`Scale::Unbounded`](super::Scale), and clamp the
/// estimate to the values that the statistic can take.
///
/// The statistic is evaluated once for each cluster.
///
/// ```
/// use prospect_analysis::stats::{Scale, estimate, pseudo_values};
///
/// let rows = [("a", 1.0), ("a", 3.0), ("b", 5.0), ("c", 7.0)];
/// let mean = |rows: &[&(&str, f64)]| Some(rows.iter().map(|row| row.1).sum::<f64>() / rows.len() as f64);
/// let values = pseudo_values(&rows, |row| row.0, mean).unwrap_or_default();
/// assert_eq!(values.len(), 3);
/// let estimate = estimate(&[values], Scale::Unbounded)?;
/// assert!((estimate.value - 3.56).abs() < 0.01 && estimate.low < 0.0);
/// # Ok::<(), prospect_analysis::stats::StatsError>(())
/// ```
pub fn pseudo_values<'a, T>(
    rows: &'a [T],
    cluster: impl Fn(&'a T) -> &'a str,
    statistic: impl Fn(&[&'a T]) -> Option<f64>,
) -> Option<Vec<Observation<'a>>> {
    let all: Vec<&T> = rows.iter().collect();
    let mut clusters: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        clusters.entry(cluster(row)).or_default().push(index);
    }
    let (total, count) = (statistic(&all)?, clusters.len() as f64);
    let pseudo_value = |(name, own): (&'a str, Vec<usize>)| {
        let others = all.iter().enumerate().filter(|(index, _)| own.binary_search(index).is_err());
        let others: Vec<&T> = others.map(|(_, row)| *row).collect();
        // One cluster alone is its own estimate.
        let without = if others.is_empty() { total } else { statistic(&others)? };
        Some(Observation { pair: name, prompt: name, value: count * total - (count - 1.0) * without })
    };
    clusters.into_iter().map(pseudo_value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Scale, estimate};

    fn mean(rows: &[&(String, f64)]) -> Option<f64> {
        (!rows.is_empty()).then(|| rows.iter().map(|row| row.1).sum::<f64>() / rows.len() as f64)
    }

    #[test]
    fn pseudo_values_of_a_mean_of_single_rows_are_the_rows() {
        let rows: Vec<(String, f64)> = (0..7).map(|n| (format!("c{n}"), f64::from(n * n))).collect();
        let values = pseudo_values(&rows, |row| &row.0, mean).unwrap();
        for (value, row) in values.iter().zip(&rows) {
            assert!((value.value - row.1).abs() < 1e-9 && value.pair == row.0, "{value:?}");
        }
    }

    #[test]
    fn rows_of_one_cluster_count_as_one_draw() {
        // The same eight values as independent rows, and each eight times in its cluster.
        let rows = |copies: usize| -> Vec<(String, f64)> {
            let row = |n: usize| (format!("c{}", n % 8), (n % 8) as f64);
            (0..8 * copies).map(row).collect()
        };
        let [once, often] = [1, 8].map(|copies| {
            let rows = rows(copies);
            let values = pseudo_values(&rows, |row| &row.0, mean).unwrap();
            estimate(&[values], Scale::Unbounded).unwrap()
        });
        assert!((once.low - often.low).abs() < 1e-9 && (once.high - often.high).abs() < 1e-9);
    }

    #[test]
    fn a_statistic_that_is_undefined_without_a_cluster_has_none() {
        let rows = [("a".to_owned(), 1.0), ("b".to_owned(), -1.0)];
        let positive = |rows: &[&(String, f64)]| {
            let values: Vec<f64> = rows.iter().map(|row| row.1).filter(|value| *value > 0.0).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        assert_eq!(pseudo_values(&rows, |row| &row.0, positive), None);
        assert_eq!(pseudo_values(&rows[..1], |row| &row.0, mean).unwrap()[0].value, 1.0);
    }
}
