//! Smoothed accuracy.

use prospect_core::sample::mean;
use statrs::function::erf::erfc;

/// Returns the smoothed accuracy of every margin: Φ(margin / root mean square of the margins).
///
/// In contrast to 0/1 accuracy, it depends on how clear a margin is, relative to the others of its
/// run; scaling all margins does not change it. It is 0.5 if all margins are 0.
pub fn smoothed_accuracies(margins: &[f64]) -> Vec<f64> {
    let root = mean(margins.iter().map(|margin| margin * margin)).unwrap_or(0.0).sqrt();
    let smoothed = |margin: &f64| {
        if root > 0.0 { 0.5 * erfc(-margin / root / std::f64::consts::SQRT_2) } else { 0.5 }
    };
    margins.iter().map(smoothed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothed_accuracy_does_not_depend_on_the_scale_of_margins() {
        let values = |scale: f64| smoothed_accuracies(&[scale, -scale, 0.0]);
        // Φ(√(3/2)) = 0.8897.
        let small = values(0.01);
        assert!((small[0] - 0.889_7).abs() < 1e-4 && (small[0] + small[1] - 1.0).abs() < 1e-12, "{small:?}");
        assert!(small.iter().zip(values(50.0)).all(|(small, large)| (small - large).abs() < 1e-12));
        assert_eq!(values(0.0), [0.5; 3]);
    }
}
