//! Variance between seeds, pooled over the methods of a sweep.
//!
//! With two or three seeds, the variance between seeds of one method is hardly known: Student's
//! quantile is 12.7 or 4.3, and after Holm's adjustment for ten comparisons 63 or 14. Most methods
//! of a sweep vary alike. Their mean squares together have many degrees of freedom.
//!
//! A method whose seeds vary significantly more keeps its own variance ([`GATE`]), and so does an x
//! at which they do. To leave it out of the pool takes stronger evidence ([`OUTLIER`]): a pool
//! without the largest of several equal variances is too small.

use super::{student::f_tail, variance::average};

/// Level of the F test at which a method keeps its own variance.
const GATE: f64 = 0.1;

/// The same level with one degree of freedom: two seeds of a method that varies much agree by
/// chance so often that the test at [`GATE`] misses a quarter of such methods.
const GATE_OF_TWO_SEEDS: f64 = 0.25;

/// Level of the F test at which a method is left out of the pool.
const OUTLIER: f64 = 0.01;

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
        if exceeds(own, self) < gate(own.df) { own } else { self }
    }
}

/// Level of the F test at which an estimate with `df` degrees of freedom is kept apart.
fn gate(df: f64) -> f64 {
    if df < 2.0 { GATE_OF_TWO_SEEDS } else { GATE }
}

/// P-value of the F test that `own` is the larger variance.
fn exceeds(own: SeedVariance, other: SeedVariance) -> f64 {
    if own.variance > other.variance { f_tail(own.variance / other.variance, own.df, other.df) } else { 1.0 }
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

impl SeedLayout {
    /// All methods, the baseline first.
    fn rows(&self) -> Vec<&[f64]> {
        std::iter::once(&self.baseline).chain(&self.others).map(Vec::as_slice).collect()
    }
}

impl Squares {
    fn variance(self) -> Option<SeedVariance> {
        (self.df > 0.0).then(|| SeedVariance { variance: self.sum / self.df, df: self.df })
    }

    /// Variance of a difference of two methods if this is an interaction of method and seed.
    fn of_difference(self) -> Option<SeedVariance> {
        self.variance().map(|one| SeedVariance { variance: 2.0 * one.variance, ..one })
    }

    /// P-value of the F test that this mean square exceeds that of `rest`; 1 if one is unknown.
    fn exceeds(self, rest: Self) -> f64 {
        self.variance().zip(rest.variance()).map_or(1.0, |(own, rest)| exceeds(own, rest))
    }
}

/// Returns the variance between seeds of the difference of each method from the baseline.
///
/// It is twice the mean square of the interaction of method and seed, pooled over all layouts. The
/// part of a seed that all methods share cancels in differences. A layout whose interaction is
/// significantly larger than the others' has a pool of its own. A method that interacts
/// significantly more than the others has the variance of its own difference; if it is the
/// baseline, so have all.
pub fn pool_differences(layouts: &[SeedLayout]) -> DifferencePool {
    let rows: Vec<Vec<&[f64]>> = layouts.iter().map(SeedLayout::rows).collect();
    let all: Vec<Squares> = rows.iter().map(|rows| interaction(rows)).collect();
    let total_without = |layout: usize| {
        sum(all.iter().enumerate().filter(|(other, _)| *other != layout).map(|(_, own)| *own))
    };
    let apart: Vec<f64> =
        (0..layouts.len()).map(|layout| all[layout].exceeds(total_without(layout))).collect();
    let common: Vec<usize> = (0..layouts.len()).filter(|layout| apart[*layout] >= OUTLIER).collect();
    let of_layout = |layout: usize| -> Vec<Option<SeedVariance>> {
        let own = [layout];
        let group: &[usize] = if apart[layout] < gate(all[layout].df) { &own } else { &common };
        differences_in(&rows, layout, group)
    };
    DifferencePool {
        differences: (0..layouts.len()).map(of_layout).collect(),
        pooled: sum(common.iter().map(|layout| ordinary(&rows, *layout, &common))).of_difference(),
    }
}

/// Variance of each difference in a layout that pools with the layouts of `group`.
fn differences_in(rows: &[Vec<&[f64]>], layout: usize, group: &[usize]) -> Vec<Option<SeedVariance>> {
    let pool = sum(group.iter().map(|other| ordinary(rows, *other, group))).of_difference();
    let methods = &rows[layout];
    let level = gate(methods.first().map_or(0, |row| row.len()) as f64 - 1.0);
    let is_apart: Vec<bool> =
        (0..methods.len()).map(|method| method_exceeds(rows, layout, method, group) < level).collect();
    let difference = |method: usize| {
        let own = interaction(&[methods[0], methods[method]]).of_difference()?;
        match pool {
            Some(pool) if is_apart[0] || is_apart[method] => {
                Some(SeedVariance { variance: own.variance.max(pool.variance), ..own })
            }
            Some(pool) => Some(pool),
            None => Some(own),
        }
    };
    (1..methods.len()).map(difference).collect()
}

/// Interaction of a layout's methods, without outliers.
fn ordinary(rows: &[Vec<&[f64]>], layout: usize, group: &[usize]) -> Squares {
    let is_ordinary = |method: &usize| method_exceeds(rows, layout, *method, group) >= OUTLIER;
    let methods = (0..rows[layout].len()).filter(is_ordinary);
    interaction(&methods.map(|method| rows[layout][method]).collect::<Vec<_>>())
}

/// P-value of the F test that a method's difference from the mean of the layout's other methods
/// varies more than the rest of the group's interaction.
fn method_exceeds(rows: &[Vec<&[f64]>], layout: usize, method: usize, group: &[usize]) -> f64 {
    let own = rows[layout][method];
    let others: Vec<&[f64]> =
        rows[layout].iter().enumerate().filter(|(other, _)| *other != method).map(|(_, row)| *row).collect();
    if others.len() < 2 {
        return 1.0;
    }
    let mean = column_means(&others);
    let share = 2.0 * others.len() as f64 / rows[layout].len() as f64;
    let between = interaction(&[own, &mean]);
    let own = Squares { sum: share * between.sum, ..between };
    let elsewhere = group.iter().filter(|other| **other != layout).map(|other| interaction(&rows[*other]));
    own.exceeds(sum(elsewhere.chain([interaction(&others)])))
}

fn sum(squares: impl Iterator<Item = Squares>) -> Squares {
    squares.fold(Squares::default(), |total, own| Squares { sum: total.sum + own.sum, df: total.df + own.df })
}

/// Mean of each column; rows have the same length.
fn column_means(rows: &[&[f64]]) -> Vec<f64> {
    let seeds = rows.first().map_or(0, |row| row.len());
    (0..seeds).map(|seed| average(&rows.iter().map(|row| row[seed]).collect::<Vec<_>>())).collect()
}

/// Interaction of the two-way layout of methods (rows) and seeds (columns).
fn interaction(rows: &[&[f64]]) -> Squares {
    let seeds = rows.first().map_or(0, |row| row.len());
    if rows.len() < 2 || seeds < 2 {
        return Squares::default();
    }
    let columns = column_means(rows);
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
/// share part of their luck, such as the draw of noise. The degrees of freedom account for that:
/// they are Satterthwaite's for the sum of the mean squares of seeds and of the interaction.
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
    let p: Vec<f64> = own
        .iter()
        .enumerate()
        .map(|(index, own)| {
            own.zip(pool_without(&|other| other == index)).map_or(1.0, |(own, rest)| exceeds(own, rest))
        })
        .collect();
    let pool = pool_without(&|index| p[index] < OUTLIER);
    let level = |(own, p): (Option<SeedVariance>, &f64)| {
        if *p < own.map_or(GATE, |own| gate(own.df)) { own } else { own.and(pool.or(own)) }
    };
    own.into_iter().zip(&p).map(level).collect()
}

fn own_level(means: &[f64]) -> Option<SeedVariance> {
    let (mean, df) = (average(means), means.len().checked_sub(1).filter(|df| *df > 0)? as f64);
    Some(SeedVariance { variance: means.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / df, df })
}

fn pooled_level(rows: &[&[f64]]) -> Option<SeedVariance> {
    let count = rows.len() as f64;
    let common = own_level(&column_means(rows))?;
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
