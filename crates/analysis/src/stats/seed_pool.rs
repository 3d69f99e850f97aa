//! Variance between seeds, pooled over the methods of a sweep.
//!
//! With two or three seeds, the variance between seeds of one method is hardly known: Student's
//! quantile is 12.7 or 4.3, and after Holm's adjustment for ten comparisons 63 or 14. Most methods
//! of a sweep vary alike. Their mean squares together have many degrees of freedom. A method whose
//! seeds vary more than the others' keeps its own variance ([`GATE`]).

use super::{student::f_tail, variance::average};

/// Level of the F test at which a method keeps its own variance.
const GATE: f64 = 0.1;

/// Variance between seeds of one run's mean, or of the difference of two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SeedVariance {
    /// Variance of one seed's value; the mean of n seeds has an n-th of it.
    pub variance: f64,
    /// Degrees of freedom of the estimate.
    pub df: f64,
}

impl SeedVariance {
    /// Returns `own` if it is significantly larger than `self`, else `self`.
    #[must_use]
    pub fn gated(self, own: Self) -> Self {
        let f = own.variance / self.variance;
        if own.variance > self.variance && f_tail(f, own.df, self.df) < GATE { own } else { self }
    }
}

/// Means by seed of the methods that share an x, with the same seeds in the same order.
#[derive(Debug, Clone, PartialEq)]
pub struct SeedLayout {
    /// Means of the baseline.
    pub baseline: Vec<f64>,
    /// Means of each other method.
    pub others: Vec<Vec<f64>>,
}

/// Variance between seeds of differences from the baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct DifferencePool {
    /// Variance of each method's difference, by layout and method; None with one seed.
    pub differences: Vec<Vec<Option<SeedVariance>>>,
    /// Variance that the ordinary methods share; None with one seed.
    pub pooled: Option<SeedVariance>,
}

/// Sum of squares with its degrees of freedom.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Squares {
    sum: f64,
    df: f64,
}

impl Squares {
    fn plus(self, other: Self) -> Self {
        Self { sum: self.sum + other.sum, df: self.df + other.df }
    }

    fn minus(self, other: Self) -> Self {
        Self { sum: (self.sum - other.sum).max(0.0), df: self.df - other.df }
    }

    fn mean(self) -> f64 {
        self.sum / self.df
    }

    /// Variance of a difference of two methods if this is an interaction of method and seed.
    fn of_difference(self) -> Option<SeedVariance> {
        (self.df > 0.0).then(|| SeedVariance { variance: 2.0 * self.mean(), df: self.df })
    }
}

/// Returns the variance between seeds of the difference of each method from the baseline.
///
/// It is twice the mean square of the interaction of method and seed, pooled over all layouts. The
/// part of a seed that all methods share cancels in differences. A difference whose own mean square
/// is significantly larger than the rest of the interaction keeps its own, and its method is left
/// out of the pool.
pub fn pool_differences(layouts: &[SeedLayout]) -> DifferencePool {
    let total = pooled(layouts, &|_, _| true);
    let is_outlier = |layout: usize, method: usize| {
        let own = own_squares(&layouts[layout], method);
        let rest = total.minus(own);
        own.df > 0.0
            && rest.df > 0.0
            && own.mean() > rest.mean()
            && f_tail(own.mean() / rest.mean(), own.df, rest.df) < GATE
    };
    let outliers: Vec<Vec<bool>> = layouts
        .iter()
        .enumerate()
        .map(|(index, layout)| (0..layout.others.len()).map(|method| is_outlier(index, method)).collect())
        .collect();
    let pool = pooled(layouts, &|layout, method| !outliers[layout][method]);
    let variance = |layout: usize, method: usize| {
        let own = own_squares(&layouts[layout], method);
        let squares = if outliers[layout][method] || pool.df == 0.0 { own } else { pool };
        squares.of_difference().filter(|_| own.df > 0.0)
    };
    let of_layout = |(index, layout): (usize, &SeedLayout)| {
        (0..layout.others.len()).map(|method| variance(index, method)).collect()
    };
    DifferencePool {
        differences: layouts.iter().enumerate().map(of_layout).collect(),
        pooled: pool.of_difference(),
    }
}

/// Interaction of method and seed over all layouts, among the baseline and the chosen methods.
fn pooled(layouts: &[SeedLayout], is_chosen: &dyn Fn(usize, usize) -> bool) -> Squares {
    let of_layout = |(index, layout): (usize, &SeedLayout)| {
        let others = layout.others.iter().enumerate().filter(|(method, _)| is_chosen(index, *method));
        let rows: Vec<&[f64]> =
            std::iter::once(&layout.baseline).chain(others.map(|(_, row)| row)).map(Vec::as_slice).collect();
        interaction(&rows)
    };
    layouts.iter().enumerate().map(of_layout).fold(Squares::default(), Squares::plus)
}

/// Part of the interaction that one difference from the baseline accounts for.
fn own_squares(layout: &SeedLayout, method: usize) -> Squares {
    interaction(&[&layout.baseline, &layout.others[method]])
}

/// Interaction of the two-way layout of methods (rows) and seeds (columns).
fn interaction(rows: &[&[f64]]) -> Squares {
    let seeds = rows.first().map_or(0, |row| row.len());
    if rows.len() < 2 || seeds < 2 {
        return Squares::default();
    }
    let columns: Vec<f64> =
        (0..seeds).map(|seed| average(&rows.iter().map(|row| row[seed]).collect::<Vec<_>>())).collect();
    let grand = average(&columns);
    let of_row = |row: &&[f64]| {
        let own = average(row);
        row.iter().zip(&columns).map(|(value, column)| (value - own - column + grand).powi(2)).sum::<f64>()
    };
    Squares { sum: rows.iter().map(of_row).sum(), df: ((rows.len() - 1) * (seeds - 1)) as f64 }
}

/// Returns the variance between seeds of each method's mean, given the means by seed of all methods
/// (at every x); None for a method with one seed.
///
/// It is pooled over the methods that have as many seeds as most. Under the same seed, methods may
/// share part of their luck, such as the draw of noise. The degrees of freedom account for that: they
/// are Satterthwaite's for the sum of the mean squares of seeds and of the interaction.
pub fn pool_levels(methods: &[Vec<f64>]) -> Vec<Option<SeedVariance>> {
    let seeds = methods.iter().map(Vec::len).max().unwrap_or(0);
    let own: Vec<Option<SeedVariance>> = methods.iter().map(|means| own_level(means)).collect();
    let pool_without = |left_out: &dyn Fn(usize) -> bool| {
        let rows: Vec<&[f64]> = methods
            .iter()
            .enumerate()
            .filter(|(index, means)| means.len() == seeds && !left_out(*index))
            .map(|(_, means)| means.as_slice())
            .collect();
        pooled_level(&rows)
    };
    let is_outlier: Vec<bool> = own
        .iter()
        .enumerate()
        .map(|(index, own)| match (own, pool_without(&|other| other == index)) {
            (Some(own), Some(rest)) => rest.gated(*own) == *own,
            _ => false,
        })
        .collect();
    let pool = pool_without(&|index| is_outlier[index]);
    own.into_iter()
        .zip(is_outlier)
        .map(|(own, is_outlier)| if is_outlier { own } else { own.and(pool.or(own)) })
        .collect()
}

fn own_level(means: &[f64]) -> Option<SeedVariance> {
    let (mean, df) = (average(means), means.len().checked_sub(1).filter(|df| *df > 0)? as f64);
    Some(SeedVariance { variance: means.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / df, df })
}

fn pooled_level(rows: &[&[f64]]) -> Option<SeedVariance> {
    let (count, seeds) = (rows.len() as f64, rows.first()?.len());
    let columns: Vec<f64> =
        (0..seeds).map(|seed| average(&rows.iter().map(|row| row[seed]).collect::<Vec<_>>())).collect();
    let common = own_level(&columns)?;
    let interaction = interaction(rows);
    // The mean of the rows' variances is the mean square of seeds and that of the interaction,
    // weighted by their degrees of freedom.
    let parts = [common.variance, interaction.sum / (count * common.df)];
    let variance: f64 = parts.iter().sum();
    let weight = |part: f64, df: f64| if df > 0.0 { part * part / df } else { 0.0 };
    let df = variance * variance / (weight(parts[0], common.df) + weight(parts[1], interaction.df));
    Some(SeedVariance { variance, df: if df.is_finite() { df } else { common.df } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(baseline: &[f64], others: &[&[f64]]) -> SeedLayout {
        SeedLayout { baseline: baseline.to_vec(), others: others.iter().map(|row| row.to_vec()).collect() }
    }

    #[test]
    fn one_difference_has_its_own_variance() {
        let pool = pool_differences(&[layout(&[0.5, 0.6, 0.7], &[&[0.5, 0.7, 0.6]])]);
        // Differences 0, 0.1 and −0.1: variance 0.01 with two degrees of freedom.
        let variance = pool.differences[0][0].unwrap();
        assert!((variance.variance - 0.01).abs() < 1e-12 && variance.df == 2.0, "{variance:?}");
        assert_eq!(pool.pooled, Some(variance));
        assert_eq!(pool_differences(&[layout(&[0.5], &[&[0.6]])]).differences, [[None]]);
    }

    #[test]
    fn methods_that_vary_alike_share_their_variance() {
        let variances = pool_differences(&[
            layout(&[0.5, 0.6, 0.7], &[&[0.5, 0.7, 0.6], &[0.6, 0.6, 0.8]]),
            layout(&[0.5, 0.6, 0.7], &[&[0.6, 0.6, 0.6]]),
        ])
        .differences;
        let first = variances[0][0].unwrap();
        assert_eq!(first.df, 6.0);
        assert!(variances.iter().flatten().all(|variance| *variance == Some(first)), "{variances:?}");
        // What a seed does to all methods alike cancels.
        let shifted = pool_differences(&[
            layout(&[0.5, 1.6, 0.7], &[&[0.5, 1.7, 0.6], &[0.6, 1.6, 0.8]]),
            layout(&[0.5, 0.6, 0.7], &[&[0.6, 0.6, 0.6]]),
        ])
        .differences;
        assert!((shifted[0][0].unwrap().variance - first.variance).abs() < 1e-12);
    }

    #[test]
    fn a_method_whose_seeds_vary_more_keeps_its_own_variance() {
        let calm: Vec<Vec<f64>> = (0..5)
            .map(|method| (0..3).map(|seed| 0.01 * f64::from((method * 7 + seed * 5) % 4)).collect())
            .collect();
        let mut others = calm[1..].to_vec();
        others.push(vec![0.3, 0.9, 0.1]);
        let layouts = [SeedLayout { baseline: calm[0].clone(), others }];
        let variances = pool_differences(&layouts).differences;
        let [.., calm, wild] = variances[0].as_slice() else { panic!() };
        assert_eq!((calm.unwrap().df, wild.unwrap().df), (8.0, 2.0));
        assert!(wild.unwrap().variance > 100.0 * calm.unwrap().variance);
        // Without it, the others have the same variance.
        let without = SeedLayout { others: layouts[0].others[..4].to_vec(), ..layouts[0].clone() };
        assert_eq!(pool_differences(&[without]).differences[0][0], variances[0][0]);
    }

    #[test]
    fn levels_pool_their_variances() {
        let methods = [vec![0.5, 0.6, 0.7], vec![0.5, 0.7, 0.6], vec![0.4, 0.4, 0.7], vec![0.5]];
        let levels = pool_levels(&methods);
        let mean = [0.01, 0.01, 0.03].iter().sum::<f64>() / 3.0;
        let first = levels[0].unwrap();
        assert!((first.variance - mean).abs() < 1e-12, "{first:?}");
        assert!(2.0 <= first.df && first.df <= 6.0, "{first:?}");
        assert_eq!((levels[1], levels[3]), (Some(first), None));
        // Methods with one common luck count as one.
        let alike = pool_levels(&[methods[0].clone(), methods[0].clone()]);
        assert!((alike[0].unwrap().df - 2.0).abs() < 1e-9, "{alike:?}");
    }
}
