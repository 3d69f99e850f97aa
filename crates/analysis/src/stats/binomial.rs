//! Exact interval of a binomial proportion.

use prospect_runs::Estimate;

use super::{StatsError, interval::ALPHA, share::exact};

/// Returns `successes / trials` of independent trials with the exact (Clopper–Pearson) 95 %
/// interval.
///
/// ```
/// let share = prospect_analysis::stats::binomial_exact(8, 10)?;
/// let text = format!("{} [{:.4}, {:.4}]", share.value, share.low, share.high);
/// assert_eq!(text, "0.8 [0.4439, 0.9748]");
/// # Ok::<(), prospect_analysis::stats::StatsError>(())
/// ```
pub fn binomial_exact(successes: u64, trials: u64) -> Result<Estimate, StatsError> {
    binomial_exact_at(ALPHA, successes, trials)
}

/// Returns `successes / trials` of independent trials with the exact (Clopper–Pearson) interval of
/// level 1 − `alpha`.
pub fn binomial_exact_at(alpha: f64, successes: u64, trials: u64) -> Result<Estimate, StatsError> {
    if trials == 0 {
        return Err(StatsError::Without("trials"));
    }
    if successes > trials {
        return Err(StatsError::Count { successes, trials });
    }
    let [low, high] = exact(successes as f64, trials as f64, alpha);
    Ok(Estimate { value: successes as f64 / trials as f64, low, high })
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
    fn intervals_of_other_levels_match_the_binomial_tails() {
        // By bisection of the binomial tails in Python. The KTO paper states 52.5 % for 269 wins of
        // 512 (base Mistral).
        let share = binomial_exact_at(0.1, 269, 512).unwrap();
        assert!((share.value - 0.525_390_625).abs() < 1e-12);
        assert!((share.low - 0.488_075).abs() < 1e-6 && (share.high - 0.562_488).abs() < 1e-6, "{share:?}");
        let whole = binomial_exact_at(0.1, 10, 10).unwrap();
        assert!((whole.low - 0.05_f64.powf(0.1)).abs() < 1e-6);
    }

    #[test]
    fn impossible_counts_are_errors() {
        assert_eq!(binomial_exact(0, 0), Err(StatsError::Without("trials")));
        assert!(binomial_exact(3, 2).is_err());
    }

    proptest! {
        #[test]
        fn intervals_contain_the_share_and_mirror(trials in 1u64..3000, share in 0.0f64..=1.0) {
            let successes = (share * trials as f64).round() as u64;
            let one = binomial_exact(successes, trials).unwrap();
            let other = binomial_exact(trials - successes, trials).unwrap();
            prop_assert!(0.0 <= one.low && one.low <= one.value && one.value <= one.high && one.high <= 1.0);
            prop_assert!((one.low + other.high - 1.0).abs() < 1e-12);
            prop_assert!(one.high - one.low < 1.0);
        }
    }
}
