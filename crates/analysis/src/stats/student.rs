//! Student's t distribution.

use statrs::function::beta::checked_beta_reg;

/// Two-sided p-value: P(|T| ≥ |t|) for T with `df` degrees of freedom.
pub(super) fn two_sided(t: f64, df: f64) -> f64 {
    if t.is_infinite() {
        return 0.0;
    }
    checked_beta_reg(df / 2.0, 0.5, df / (df + t * t)).unwrap_or(f64::NAN)
}

/// Critical value: the t that |T| exceeds with probability `p`.
///
/// Bisection of [`two_sided`] keeps small `p` exact. `statrs`'s `StudentsT::inverse_cdf` takes
/// 1 − p/2, which rounds a small `p` away, and is off by 1.2e-4 at a million degrees of freedom.
pub(super) fn critical(p: f64, df: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while two_sided(high, df) > p && high < 1e12 {
        (low, high) = (high, 2.0 * high);
    }
    // 60 halvings exhaust the precision of f64.
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if two_sided(middle, df) > p {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// Upper tail of the F distribution: P(F ≥ `f`) with `above` and `below` degrees of freedom.
pub(super) fn f_tail(f: f64, above: f64, below: f64) -> f64 {
    if f.is_infinite() {
        return 0.0;
    }
    checked_beta_reg(below / 2.0, above / 2.0, below / (below + above * f)).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_match_published_tables() {
        for (df, t) in
            [(1.0, 12.706_205), (2.0, 4.302_653), (4.0, 2.776_445), (30.0, 2.042_272), (1e6, 1.959_966)]
        {
            assert!((critical(0.05, df) - t).abs() < 2e-6, "{df}: {}", critical(0.05, df));
            assert!((two_sided(t, df) - 0.05).abs() < 1e-6, "{df}");
        }
        assert!((two_sided(1.0, 1.0) - 0.5).abs() < 1e-12, "Cauchy's quartiles");
        assert_eq!((two_sided(0.0, 3.0), two_sided(f64::INFINITY, 3.0)), (1.0, 0.0));
        // R: qf(0.9, 2, 4) and qf(0.95, 3, 10).
        assert!((f_tail(4.324_555, 2.0, 4.0) - 0.1).abs() < 1e-6);
        assert!((f_tail(3.708_265, 3.0, 10.0) - 0.05).abs() < 1e-6);
        assert_eq!((f_tail(0.0, 2.0, 4.0), f_tail(f64::INFINITY, 2.0, 4.0)), (1.0, 0.0));
    }
}
