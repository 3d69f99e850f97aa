//! PPO's clipped loss for one completion with advantage +1 or −1, offline: with the policy's ratio
//! to a fixed reference.

/// Clip range of the ratio in the paper's offline PPO.
const RANGE: (f64, f64) = (0.25, 4.0);

/// Returns the loss at a log-ratio.
pub(crate) fn loss(log_ratio: f64, advantage: f64) -> f64 {
    loss_of_ratio(log_ratio.exp(), advantage)
}

/// Returns −min(A·q, A·clip(q)) at a ratio q.
pub(crate) fn loss_of_ratio(ratio: f64, advantage: f64) -> f64 {
    let clipped = ratio.clamp(RANGE.0, RANGE.1);
    -(advantage * ratio).min(advantage * clipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gains_are_clipped_and_losses_are_not() {
        assert_eq!([loss_of_ratio(9.0, 1.0), loss_of_ratio(0.1, 1.0)], [-4.0, -0.1]);
        assert_eq!([loss_of_ratio(9.0, -1.0), loss_of_ratio(0.1, -1.0)], [9.0, 0.25]);
        assert_eq!(loss(0.0, 1.0), -1.0);
    }
}
