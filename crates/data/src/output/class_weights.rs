//! Class weights that balance unequal classes (Ethayarajh et al. 2024, arXiv 2402.01306, equation
//! 9).

use serde::{Deserialize, Serialize};

use crate::SplitCounts;

/// λ_D and λ_U that give both classes of the training split equal weight; neither is below 1.
///
/// They are valid values of `desirable_weight` and `undesirable_weight` of a KTO run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalancedClassWeights {
    /// λ_D.
    pub desirable_weight: f64,
    /// λ_U.
    pub undesirable_weight: f64,
    /// (λ_D·n_D)/(λ_U·n_U) with these weights; the paper recommends 1 to 4/3, later 3/2.
    pub balance: f64,
    /// n_D/n_U: the balance with weights of 1.
    pub unweighted_balance: f64,
}

impl BalancedClassWeights {
    /// Returns the weights for a split; None if one of its classes is empty.
    pub(crate) fn from_counts(counts: SplitCounts) -> Option<Self> {
        let (desirable, undesirable) = (counts.n_desirable as f64, counts.n_undesirable as f64);
        if desirable == 0.0 || undesirable == 0.0 {
            return None;
        }
        let desirable_weight = (undesirable / desirable).max(1.0);
        let undesirable_weight = (desirable / undesirable).max(1.0);
        let balance = (desirable_weight * desirable) / (undesirable_weight * undesirable);
        let unweighted_balance = desirable / undesirable;
        Some(Self { desirable_weight, undesirable_weight, balance, unweighted_balance })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rarer_class_weighs_more() {
        let weights = |n_desirable, n_undesirable| {
            BalancedClassWeights::from_counts(SplitCounts {
                n_desirable,
                n_undesirable,
                ..SplitCounts::default()
            })
        };
        let expected = BalancedClassWeights {
            desirable_weight: 10.0,
            undesirable_weight: 1.0,
            balance: 1.0,
            unweighted_balance: 0.1,
        };
        assert_eq!(weights(5, 50), Some(expected));
        let other = weights(50, 5).unwrap();
        assert_eq!((other.desirable_weight, other.undesirable_weight, other.balance), (1.0, 10.0, 1.0));
        assert_eq!(weights(0, 5), None);
    }
}
