//! Levels of the looks of a comparison.

use statrs::function::erf::{erfc, erfc_inv};

/// Share of the remaining α that each call may spend.
const SHARE_OF_CALL: f64 = 0.75;

/// Returns the levels of looks after these numbers of seeds, in ascending order. They add up to
/// `alpha`.
///
/// The first k levels together are the spending function of Lan and DeMets (1983) that resembles
/// the boundaries of O'Brien and Fleming: 2 − 2Φ(z(α/2) / √t), where t is the share of the last
/// look's seeds. Early looks need strong evidence, and the last one keeps almost all of α.
pub fn look_levels(alpha: f64, seeds: &[usize]) -> Vec<f64> {
    let last = seeds.last().copied().unwrap_or(0) as f64;
    let spent = |seeds: usize| erfc(erfc_inv(alpha) / (seeds as f64 / last).sqrt());
    let mut before = 0.0;
    let level = |seeds: &usize| {
        let total = spent(*seeds);
        let level = total - before;
        before = total;
        level
    };
    seeds.iter().map(level).collect()
}

/// Returns the part of `alpha` that a call may spend, counted from 0: three quarters of what the
/// earlier ones left.
pub fn call_alpha(alpha: f64, call: usize) -> f64 {
    (0..call).fold(alpha, |left, _| left * (1.0 - SHARE_OF_CALL)) * SHARE_OF_CALL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_match_the_published_spending_function() {
        // R: 2 - 2 * pnorm(qnorm(0.975) / sqrt(c(1/4, 1/2, 3/4, 1))), cumulated.
        let levels = look_levels(0.05, &[1, 2, 3, 4]);
        let mut total = 0.0;
        for (level, spent) in levels.iter().zip([8.857e-5, 0.005_575, 0.023_625, 0.05]) {
            total += level;
            assert!((total - spent).abs() < 2e-5, "{total} {spent}");
        }
        assert_eq!(look_levels(0.05, &[]), [0.0; 0]);
    }

    #[test]
    fn calls_never_spend_more_than_alpha() {
        let spent: f64 = (0..40).map(|call| call_alpha(0.05, call)).sum();
        assert!((spent - 0.05).abs() < 1e-12, "{spent}");
        assert!((call_alpha(0.05, 0) - 0.0375).abs() < 1e-12);
        assert!((call_alpha(0.05, 1) - 0.009_375).abs() < 1e-12);
    }
}
