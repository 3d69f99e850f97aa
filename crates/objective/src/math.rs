//! Numerically stable logistic functions.

/// Computes σ(x) = 1 / (1 + e^−x) without overflow.
pub(crate) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

/// Computes log σ(x), accurate for large |x|.
pub(crate) fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

/// Returns the central difference of `f` along each coordinate of `at`, for testing gradients.
#[cfg(test)]
pub(crate) fn finite_differences(at: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let step = 1e-5;
    (0..at.len())
        .map(|i| {
            let moved = |by: f64| {
                let mut point = at.to_vec();
                point[i] += by;
                f(&point)
            };
            (moved(step) - moved(-step)) / (2.0 * step)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_stay_finite() {
        assert_eq!((sigmoid(-1e4), sigmoid(0.0), sigmoid(1e4)), (0.0, 0.5, 1.0));
        assert_eq!((log_sigmoid(-1e4), log_sigmoid(1e4)), (-1e4, 0.0));
        assert!((log_sigmoid(0.3) - sigmoid(0.3).ln()).abs() < 1e-15);
    }
}
