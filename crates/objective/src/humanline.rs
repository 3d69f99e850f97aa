//! Humanline clamping of token log-ratios (arXiv 2509.24207; HALOs' `log_epsilon_P` and
//! `log_epsilon_R`).

use serde::Serialize;

/// Bounds on the log-ratio of each token. A token outside counts as much as the bound and has no
/// gradient.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Humanline {
    /// Lower bound, in nats (-1).
    pub low: f64,
    /// Upper bound, in nats (1.5).
    pub high: f64,
}

impl Default for Humanline {
    fn default() -> Self {
        Self { low: -1.0, high: 1.5 }
    }
}

impl Humanline {
    /// Clamps a token's log-ratio to the bounds.
    pub fn clamp(&self, ratio: f64) -> f64 {
        ratio.clamp(self.low, self.high)
    }

    /// Returns true if the token has a gradient, that is, if it is within the bounds (inclusive).
    pub fn is_inside(&self, ratio: f64) -> bool {
        (self.low..=self.high).contains(&ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_outside_the_bounds_count_as_the_bound() {
        let humanline = Humanline::default();
        let ratios = [-3.0, -1.0, 0.25, 1.5, 9.0];
        assert_eq!(ratios.map(|ratio| humanline.clamp(ratio)), [-1.0, -1.0, 0.25, 1.5, 1.5]);
        assert_eq!(ratios.map(|ratio| humanline.is_inside(ratio)), [false, true, true, true, false]);
    }
}
