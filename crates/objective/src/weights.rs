//! Class weights from the counts of classes (arXiv 2402.01306, equation 9).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A class weight as typed: a number, or `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", untagged)]
pub enum Weight {
    /// As it is.
    KernelArg(f64),
    /// From the counts of the training data, see [`ClassWeights::resolve`].
    Auto(Auto),
}

/// The word `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Auto {
    /// The word `auto`.
    Auto,
}

/// λ_D and λ_U.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassWeights {
    /// λ_D.
    pub desirable: f64,
    /// λ_U.
    pub undesirable: f64,
}

impl Default for ClassWeights {
    fn default() -> Self {
        Self { desirable: 1.0, undesirable: 1.0 }
    }
}

impl ClassWeights {
    /// Resolves weights for `counts` = (n_D, n_U) examples so that (λ_D·n_D)/(λ_U·n_U) = `balance` if one of them is
    /// `auto`. If both are, λ_U stays 1. With only one class there is nothing to balance: `auto` is then 1.
    pub fn resolve(desirable: Weight, undesirable: Weight, counts: (usize, usize), balance: f64) -> Self {
        let ratio = counts.1 as f64 / counts.0 as f64;
        let ratio = if ratio.is_finite() && ratio > 0.0 { balance * ratio } else { 1.0 };
        match (desirable, undesirable) {
            (Weight::KernelArg(desirable), Weight::KernelArg(undesirable)) => Self { desirable, undesirable },
            (Weight::KernelArg(desirable), Weight::Auto(_)) => {
                Self { desirable, undesirable: desirable / ratio }
            }
            (Weight::Auto(_), Weight::KernelArg(undesirable)) => {
                Self { desirable: undesirable * ratio, undesirable }
            }
            (Weight::Auto(_), Weight::Auto(_)) => Self { desirable: ratio, undesirable: 1.0 },
        }
    }
}

/// (λ_D·n_D)/(λ_U·n_U): the paper advises 1 to 4/3. None if a class is empty or has no weight.
pub fn class_balance(weights: ClassWeights, counts: (usize, usize)) -> Option<f64> {
    let balance = weights.desirable * counts.0 as f64 / (weights.undesirable * counts.1 as f64);
    (balance.is_finite() && balance > 0.0).then_some(balance)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTO: Weight = Weight::Auto(Auto::Auto);

    #[test]
    fn auto_reaches_the_balance() {
        for (desirable, undesirable) in
            [(AUTO, Weight::KernelArg(1.0)), (Weight::KernelArg(1.0), AUTO), (AUTO, AUTO)]
        {
            let weights = ClassWeights::resolve(desirable, undesirable, (10, 100), 4.0 / 3.0);
            assert!((class_balance(weights, (10, 100)).unwrap() - 4.0 / 3.0).abs() < 1e-12);
        }
        let weights = ClassWeights::resolve(AUTO, Weight::KernelArg(1.0), (10, 100), 1.0);
        assert_eq!(weights, ClassWeights { desirable: 10.0, undesirable: 1.0 });
    }

    #[test]
    fn one_class_has_weight_one() {
        let weights = ClassWeights::resolve(AUTO, Weight::KernelArg(1.0), (0, 100), 1.0);
        assert_eq!(weights, ClassWeights { desirable: 1.0, undesirable: 1.0 });
        assert_eq!(class_balance(weights, (0, 100)), None);
    }

    #[test]
    fn weights_are_read_as_typed() {
        let read = |text: &str| serde_json::from_str::<Weight>(text);
        assert_eq!(read("2.5").unwrap(), Weight::KernelArg(2.5));
        assert_eq!(read("\"auto\"").unwrap(), AUTO);
        assert!(read("\"automatic\"").is_err());
    }
}
