//! Adjustment for multiple comparisons.

/// Returns p-values adjusted by Holm's method (1979), in the order given. Rejecting those below α
/// makes any false rejection at all with a probability of at most α.
///
/// ```
/// assert_eq!(prospect_analysis::stats::holm(&[0.01, 0.04, 0.03]), [0.03, 0.06, 0.06]);
/// ```
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let (mut adjusted, mut least) = (vec![1.0; p_values.len()], 0.0_f64);
    for (rank, index) in order.into_iter().enumerate() {
        let remaining = (p_values.len() - rank) as f64;
        least = least.max((remaining * p_values[index]).min(1.0));
        adjusted[index] = least;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_match_r() {
        // R: p.adjust(c(0.01, 0.02, 0.03, 0.04), "holm")
        assert_eq!(holm(&[0.01, 0.02, 0.03, 0.04]), [0.04, 0.06, 0.06, 0.06]);
        assert_eq!(holm(&[0.7, 0.6]), [1.0, 1.0]);
        assert_eq!(holm(&[]), [0.0; 0]);
    }

    proptest! {
        #[test]
        fn adjusting_raises_and_keeps_the_order(p in prop::collection::vec(0.0f64..=1.0, 1..20)) {
            let adjusted = holm(&p);
            for (a, x) in adjusted.iter().zip(&p) {
                prop_assert!(x <= a && *a <= 1.0);
                for (b, y) in adjusted.iter().zip(&p) {
                    prop_assert!(x > y || a <= b);
                }
            }
        }
    }
}
