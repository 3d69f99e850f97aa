//! Configuration of a run: `config.json`.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// `config.json` of a run: its resolved settings and its inputs, written before training starts.
///
/// Other crates own the types of the settings, the model recipe, the class weights and the counts
/// of encoding, which are recorded as they serialise them. Values that code reads are typed; a
/// [`Value`] is a record for people. Directories of earlier versions lack some keys, which read as
/// their defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunConfig {
    /// Resolved training settings.
    pub settings: RecordedSettings,
    /// Resolved model recipe.
    pub model: Value,
    /// Fingerprint of the weights and tokenizer that training starts from.
    pub model_fingerprint: String,
    /// Kernels of matrix products with weights, such as `avx512_bf16`; None in directories of
    /// earlier versions.
    pub kernels: Option<String>,
    /// Model family, such as `llama`. Models of one family differ in size only, or nearly so.
    pub family: Option<String>,
    /// Number of model parameters without those of an adapter.
    pub parameters: Option<u64>,
    /// Directory of the prepared dataset.
    pub dataset: PathBuf,
    /// Random seed.
    pub seed: u64,
    /// Number of training examples.
    pub examples: usize,
    /// Optimizer steps of the whole run.
    pub steps: Option<u64>,
    /// Number of desirable and of undesirable training examples.
    pub class_counts: (usize, usize),
    /// Effective λ_D and λ_U, for objectives with class weights.
    pub class_weights: Value,
    /// Counts of conversations that were truncated or dropped while encoding.
    pub encoding: Value,
    /// Number of held-out pairs; None for stages that are not evaluated.
    pub held_out_pairs: Option<usize>,
    /// Number of held-out thumbs, sides of pairs included; None for stages that are not evaluated.
    pub held_out_thumbs: Option<usize>,
}

/// Size of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSize {
    /// Model family, such as `llama`.
    pub family: String,
    /// Number of parameters without those of an adapter.
    pub parameters: u64,
}

/// Training settings of a run, with the key that readers need as a field.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RecordedSettings {
    /// Objective with its options.
    pub objective: RecordedObjective,
    /// All other settings, in their order.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// Objective of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RecordedObjective {
    /// Name of an objective without options.
    Name(String),
    /// Options by the name of the objective: one entry.
    WithOptions(BTreeMap<String, RecordedOptions>),
}

impl Default for RecordedObjective {
    fn default() -> Self {
        Self::Name(String::new())
    }
}

/// Options of an objective, with the key that readers need as a field.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RecordedOptions {
    /// β, for objectives that have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta: Option<f64>,
    /// All other options, in their order.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

impl RunConfig {
    /// β of the run's objective, which scales log-ratios to rewards; None if the objective has
    /// none.
    pub fn beta(&self) -> Option<f64> {
        match &self.settings.objective {
            RecordedObjective::Name(_) => None,
            RecordedObjective::WithOptions(options) => options.values().find_map(|options| options.beta),
        }
    }

    /// Size of the run's model; None if it was not recorded.
    pub fn model_size(&self) -> Option<ModelSize> {
        Some(ModelSize { family: self.family.clone()?, parameters: self.parameters? })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn beta_is_that_of_the_objective() {
        let beta = |settings: Value| {
            let settings = serde_json::from_value(settings).unwrap();
            RunConfig { settings, ..RunConfig::default() }.beta()
        };
        assert_eq!(beta(json!({"objective": {"kto": {"beta": 0.1, "kl_partners": 1}}})), Some(0.1));
        assert_eq!(beta(json!({"objective": "sft"})), None);
        assert_eq!(beta(json!({"objective": {"csft": {"good": "x"}}})), None);
        assert_eq!(RunConfig::default().beta(), None);
    }

    #[test]
    fn settings_are_written_as_they_were_read() {
        for text in [
            r#"{"objective":{"kto":{"beta":0.1,"z0":"global","a":[1,null]}},"rate":1e-5,"length":{"steps":3}}"#,
            r#"{"objective":{"csft":{"undesirable":"<|bad|>","desirable":"<|good|>"}},"b":2,"a":1}"#,
            r#"{"objective":"sft"}"#,
        ] {
            let settings: RecordedSettings = serde_json::from_str(text).unwrap();
            let rewritten = serde_json::to_string(&settings).unwrap();
            assert_eq!(rewritten, serde_json::from_str::<Value>(text).unwrap().to_string());
        }
    }

    #[test]
    fn earlier_versions_lack_keys() {
        let config: RunConfig = serde_json::from_value(json!({"seed": 3, "later": {}})).unwrap();
        assert_eq!((config.seed, config.steps, config.model_size()), (3, None, None));
    }
}
