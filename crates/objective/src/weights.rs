//! Class weights computed from class counts (arXiv 2402.01306, equation 9).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Weight of a class: a number, or `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", untagged)]
pub enum ClassWeight {
    /// Fixed weight.
    Fixed(f64),
    /// Weight computed from the counts of the training data, see [`ClassWeights::resolve`].
    Auto(Auto),
}

/// The keyword `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Auto {
    /// The keyword `auto`.
    Auto,
}

/// Numbers of training examples by class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassCounts {
    /// n_D, the number of desirable examples.
    pub desirable: usize,
    /// n_U, the number of undesirable examples.
    pub undesirable: usize,
}

/// Class weights λ_D and λ_U.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassWeights {
    /// λ_D, the weight of desirable examples.
    pub desirable: f64,
    /// λ_U, the weight of undesirable examples.
    pub undesirable: f64,
}

impl Default for ClassWeights {
    fn default() -> Self {
        Self { desirable: 1.0, undesirable: 1.0 }
    }
}

impl ClassWeights {
    /// Resolves `auto` weights so that (λ_D·n_D)/(λ_U·n_U) = `balance`. If both are `auto`, λ_U is
    /// 1. If a class is empty, there is nothing to balance and `auto` is 1.
    pub fn resolve(
        desirable: ClassWeight,
        undesirable: ClassWeight,
        counts: ClassCounts,
        balance: f64,
    ) -> Self {
        let ratio = counts.undesirable as f64 / counts.desirable as f64;
        let ratio = if ratio.is_finite() && ratio > 0.0 { balance * ratio } else { 1.0 };
        match (desirable, undesirable) {
            (ClassWeight::Fixed(desirable), ClassWeight::Fixed(undesirable)) => {
                Self { desirable, undesirable }
            }
            (ClassWeight::Fixed(desirable), ClassWeight::Auto(_)) => {
                Self { desirable, undesirable: desirable / ratio }
            }
            (ClassWeight::Auto(_), ClassWeight::Fixed(undesirable)) => {
                Self { desirable: undesirable * ratio, undesirable }
            }
            (ClassWeight::Auto(_), ClassWeight::Auto(_)) => Self { desirable: ratio, undesirable: 1.0 },
        }
    }
}

/// Returns the balance (λ_D·n_D)/(λ_U·n_U), or None if a class is empty or has zero weight. The
/// paper recommends 1 to 4/3 (version 1), or to 3/2 (versions 3 to 5).
pub fn class_balance(weights: ClassWeights, counts: ClassCounts) -> Option<f64> {
    let balance =
        weights.desirable * counts.desirable as f64 / (weights.undesirable * counts.undesirable as f64);
    (balance.is_finite() && balance > 0.0).then_some(balance)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTO: ClassWeight = ClassWeight::Auto(Auto::Auto);

    #[test]
    fn auto_reaches_the_balance() {
        let counts = ClassCounts { desirable: 10, undesirable: 100 };
        for (desirable, undesirable) in
            [(AUTO, ClassWeight::Fixed(1.0)), (ClassWeight::Fixed(1.0), AUTO), (AUTO, AUTO)]
        {
            let weights = ClassWeights::resolve(desirable, undesirable, counts, 4.0 / 3.0);
            assert!((class_balance(weights, counts).unwrap() - 4.0 / 3.0).abs() < 1e-12);
        }
        let weights = ClassWeights::resolve(AUTO, ClassWeight::Fixed(1.0), counts, 1.0);
        assert_eq!(weights, ClassWeights { desirable: 10.0, undesirable: 1.0 });
    }

    #[test]
    fn one_class_has_weight_one() {
        let counts = ClassCounts { desirable: 0, undesirable: 100 };
        let weights = ClassWeights::resolve(AUTO, ClassWeight::Fixed(1.0), counts, 1.0);
        assert_eq!(weights, ClassWeights { desirable: 1.0, undesirable: 1.0 });
        assert_eq!(class_balance(weights, counts), None);
    }

    #[test]
    fn weights_are_read_as_typed() {
        let read = |text: &str| serde_json::from_str::<ClassWeight>(text);
        assert_eq!(read("2.5").unwrap(), ClassWeight::Fixed(2.5));
        assert_eq!(read("\"auto\"").unwrap(), AUTO);
        assert!(read("\"automatic\"").is_err());
    }
}
