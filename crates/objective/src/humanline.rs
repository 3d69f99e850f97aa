//! Humanline clamping (arXiv 2509.24207; HALOs' `log_epsilon_P` and `log_epsilon_R`).

use serde::Serialize;

/// Bounds on the log-ratio of every token: outside them a token counts as much as the bound, and has no gradient.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Humanline {
    /// The lower bound, in nats.
    pub low: f64,
    /// The upper bound, in nats.
    pub high: f64,
}

impl Default for Humanline {
    fn default() -> Self {
        Self { low: -1.0, high: 1.5 }
    }
}

impl Humanline {
    /// A token's log-ratio within the bounds.
    pub fn clamp(&self, ratio: f64) -> f64 {
        ratio.clamp(self.low, self.high)
    }

    /// Whether the token still has a gradient. A bound itself is inside.
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
