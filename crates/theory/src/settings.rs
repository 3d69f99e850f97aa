//! `experiments/theory.yaml`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An experiment that is worked out instead of run, as typed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TheoryFile {
    /// The question, in a sentence.
    question: String,
    /// The worlds to look at.
    theory: TheorySettingsFile,
}

/// The worlds to look at, as typed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TheorySettingsFile {
    /// KTO's and DPO's β (0.1).
    beta: f64,
    /// Shares of annotators who hold with the majority, each above 0.5 and below 1.
    shares: Vec<f64>,
    /// Probabilities that the reference gives the completion which the majority prefers, each above 0 and below 1.
    references: Vec<f64>,
    /// λ_U of a KTO that is not loss-neutral, λ_D being 1 (1.5).
    undesirable_weight: f64,
}

impl Default for TheorySettingsFile {
    fn default() -> Self {
        let Theory { beta, shares, references, undesirable_weight, .. } = Theory::default();
        Self { beta, shares, references, undesirable_weight }
    }
}

/// The worlds to look at, checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Theory {
    /// The question, in a sentence.
    pub question: String,
    /// β.
    pub beta: f64,
    /// Shares of annotators who hold with the majority.
    pub shares: Vec<f64>,
    /// What the reference gives the completion that the majority prefers.
    pub references: Vec<f64>,
    /// λ_U of a KTO that is not loss-neutral.
    pub undesirable_weight: f64,
}

impl Default for Theory {
    fn default() -> Self {
        Self {
            question: String::new(),
            beta: 0.1,
            shares: vec![0.51, 0.55, 0.6, 0.65, 0.7, 0.8, 0.9],
            references: vec![0.5, 0.1, 0.01, 0.001],
            undesirable_weight: 1.5,
        }
    }
}

/// Why there is nothing to work out.
#[derive(Debug, thiserror::Error)]
pub enum TheoryError {
    /// A value is outside its range.
    #[error("`theory.{key}` is {value}: {message}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value given.
        value: String,
        /// What the key accepts.
        message: &'static str,
    },
}

impl TheoryFile {
    /// Checks the values.
    pub fn resolve(self) -> Result<Theory, TheoryError> {
        let TheorySettingsFile { beta, shares, references, undesirable_weight } = self.theory;
        let check = |holds: bool, key, value: String, message| {
            if holds { Ok(()) } else { Err(TheoryError::Value { key, value, message }) }
        };
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let within = |values: &[f64], low: f64| {
            !values.is_empty() && values.iter().all(|value| *value > low && *value < 1.0)
        };
        check(positive(beta), "beta", beta.to_string(), "it is a number above 0")?;
        let (key, message) = ("shares", "they are above 0.5, for a majority, and below 1; give at least one");
        check(within(&shares, 0.5), key, format!("{shares:?}"), message)?;
        let (key, message) = ("references", "they are above 0 and below 1; give at least one");
        check(within(&references, 0.0), key, format!("{references:?}"), message)?;
        let (key, message) =
            ("undesirable_weight", "it is a number above 0, and not 1, which is loss-neutral");
        let averse = positive(undesirable_weight) && undesirable_weight != 1.0;
        check(averse, key, undesirable_weight.to_string(), message)?;
        Ok(Theory { question: self.question, beta, shares, references, undesirable_weight })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_majority_is_refused() {
        let resolve = |theory: &str| {
            let text = format!("{{\"question\": \"\", \"theory\": {theory}}}");
            serde_json::from_str::<TheoryFile>(&text).unwrap().resolve().map_err(|error| error.to_string())
        };
        assert_eq!(resolve("{}"), Ok(Theory::default()));
        for (theory, complaint) in [
            (r#"{"beta": 0}"#, "`theory.beta` is 0"),
            (r#"{"shares": [0.6, 0.5]}"#, "`theory.shares` is [0.6, 0.5]"),
            (r#"{"references": []}"#, "at least one"),
            (r#"{"undesirable_weight": 1}"#, "loss-neutral"),
        ] {
            assert!(resolve(theory).unwrap_err().contains(complaint), "{theory}");
        }
    }
}
