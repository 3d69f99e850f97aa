//! The exact interval of a share.

use prospect_runs::Estimate;

use super::StatsError;

/// Probability outside a 95 % interval on either side.
const TAIL: f64 = 0.025;

/// The share `successes / trials` of independent trials with its exact (Clopper–Pearson) 95 % interval.
///
/// ```
/// let share = prospect_eval::stats::binomial_exact(8, 10)?;
/// assert_eq!(format!("{} [{:.4}, {:.4}]", share.value, share.low, share.high), "0.8 [0.4439, 0.9748]");
/// # Ok::<(), prospect_eval::stats::StatsError>(())
/// ```
pub fn binomial_exact(successes: u64, trials: u64) -> Result<Estimate, StatsError> {
    if trials == 0 {
        return Err(StatsError::Without("trials"));
    }
    if successes > trials {
        return Err(StatsError::Count { successes, trials });
    }
    let value = successes as f64 / trials as f64;
    Ok(Estimate { value, low: lower(successes, trials), high: 1.0 - lower(trials - successes, trials) })
}

/// The probability of success under which `successes` or more happen in a share [`TAIL`] of cases.
fn lower(successes: u64, trials: u64) -> f64 {
    if successes == 0 {
        return 0.0;
    }
    let coefficients = log_coefficients(successes, trials);
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    // Halving 60 times exhausts the precision of f64.
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if at_least(successes, trials, middle, &coefficients) < TAIL {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// log of `trials` choose `count`, for every count from `first` to `trials`.
fn log_coefficients(first: u64, trials: u64) -> Vec<f64> {
    // Downwards from the last, which is log 1.
    let mut coefficients = vec![0.0];
    let mut last = 0.0;
    for count in (first..trials).rev() {
        last += ((count + 1) as f64).ln() - ((trials - count) as f64).ln();
        coefficients.push(last);
    }
    coefficients.reverse();
    coefficients
}

/// P(X ≥ `successes`) for X binomial.
fn at_least(successes: u64, trials: u64, probability: f64, coefficients: &[f64]) -> f64 {
    let (success, failure) = (probability.ln(), (-probability).ln_1p());
    let term = |(count, coefficient): (u64, &f64)| {
        let failures = trials - count;
        // 0 · log 0 is 0 here.
        let failing = if failures == 0 { 0.0 } else { failures as f64 * failure };
        (coefficient + count as f64 * success + failing).exp()
    };
    (successes..=trials).zip(coefficients).map(term).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_match_published_ones() {
        // R: binom.test(k, n)$conf.int; for k = 0 the upper end is 1 - 0.025^(1/n).
        for (successes, trials, low, high) in [
            (0, 10, 0.0, 1.0 - 0.025_f64.powf(0.1)),
            (10, 10, 0.025_f64.powf(0.1), 1.0),
            (5, 10, 0.187_086, 0.812_914),
            (8, 10, 0.443_905, 0.974_789),
            (1, 1, 0.025, 1.0),
        ] {
            let share = binomial_exact(successes, trials).unwrap();
            assert!((share.low - low).abs() < 1e-6, "{successes}/{trials}: {share:?}");
            assert!((share.high - high).abs() < 1e-6, "{successes}/{trials}: {share:?}");
        }
    }

    #[test]
    fn impossible_counts_are_errors() {
        assert_eq!(binomial_exact(0, 0), Err(StatsError::Without("trials")));
        assert!(binomial_exact(3, 2).is_err());
    }

    proptest! {
        #[test]
        fn intervals_hold_the_share_and_mirror(trials in 1u64..3000, share in 0.0f64..=1.0) {
            let successes = (share * trials as f64).round() as u64;
            let (one, other) = (binomial_exact(successes, trials).unwrap(), binomial_exact(trials - successes, trials).unwrap());
            prop_assert!(0.0 <= one.low && one.low <= one.value && one.value <= one.high && one.high <= 1.0);
            prop_assert!((one.low + other.high - 1.0).abs() < 1e-12);
            // Wider than the normal approximation's narrowest claim, narrower than everything.
            prop_assert!(one.high - one.low < 1.0);
        }
    }
}
