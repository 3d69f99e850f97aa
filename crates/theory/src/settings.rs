//! Settings of `experiments/theory.yaml`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A theory experiment, which is computed instead of trained, as written in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TheoryFile {
    /// Question that the experiment answers, in a sentence.
    question: String,
    /// Worlds to evaluate.
    theory: TheorySettingsFile,
}

/// Worlds to evaluate, as written in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TheorySettingsFile {
    /// β of KTO and DPO (0.1).
    beta: f64,
    /// Majority shares of the annotators, each above 0.5 and below 1 ([0.51, 0.55, 0.6, 0.65, 0.7,
    /// 0.8, 0.9]).
    shares: Vec<f64>,
    /// Reference probabilities of the majority's completion, each above 0 and below 1 ([0.5, 0.1,
    /// 0.01, 0.001]).
    references: Vec<f64>,
    /// λ_U of a KTO variant that is not loss-neutral; its λ_D is 1 (1.5).
    undesirable_weight: f64,
}

impl Default for TheorySettingsFile {
    fn default() -> Self {
        let Theory { beta, shares, references, undesirable_weight, .. } = Theory::default();
        Self { beta, shares, references, undesirable_weight }
    }
}

/// Checked settings of a theory experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Theory {
    /// Question that the experiment answers, in a sentence.
    pub question: String,
    /// β of KTO and DPO.
    pub beta: f64,
    /// Majority shares of the annotators.
    pub shares: Vec<f64>,
    /// Reference probabilities of the majority's completion.
    pub references: Vec<f64>,
    /// λ_U of the KTO variant that is not loss-neutral.
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

/// Reason why settings are invalid.
#[derive(Debug, thiserror::Error)]
pub enum TheoryError {
    /// A value is out of range.
    #[error("`theory.{key}` is {value}: {message}")]
    Value {
        /// Key of the setting.
        key: &'static str,
        /// Value given.
        value: String,
        /// Accepted values.
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
        check(positive(beta), "beta", beta.to_string(), "must be a finite number above 0")?;
        let (key, message) =
            ("shares", "must list at least one share, each above 0.5 (a majority) and below 1");
        check(within(&shares, 0.5), key, format!("{shares:?}"), message)?;
        let (key, message) = ("references", "must list at least one probability, each above 0 and below 1");
        check(within(&references, 0.0), key, format!("{references:?}"), message)?;
        let (key, message) =
            ("undesirable_weight", "must be a finite number above 0 other than 1, which is loss-neutral");
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
