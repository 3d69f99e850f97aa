//! Configuration of a run: `config.json`.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `config.json` of a run: its resolved settings and its inputs, written before training starts.
///
/// The training crate owns the types of the settings, the model recipe, the class weights and the
/// token counts; they are recorded here as it serialises them. Directories of earlier versions lack
/// some keys, which read as their defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunConfig {
    /// Resolved training settings.
    pub settings: Value,
    /// Resolved model recipe.
    pub model: Value,
    /// Fingerprint of the weights and tokenizer that training starts from.
    pub model_fingerprint: String,
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

/// The part of [`RunConfig::settings`] that readers need. An objective without options is a bare
/// name, which does not deserialise.
#[derive(Deserialize)]
struct ObjectiveSettings {
    /// Options by the name of the objective.
    objective: BTreeMap<String, ObjectiveOptions>,
}

#[derive(Deserialize)]
struct ObjectiveOptions {
    beta: Option<f64>,
}

impl RunConfig {
    /// β of the run's objective, which scales log-ratios to rewards; None if the objective has
    /// none.
    pub fn beta(&self) -> Option<f64> {
        let settings = ObjectiveSettings::deserialize(&self.settings).ok()?;
        settings.objective.values().find_map(|options| options.beta)
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
        let beta = |settings: Value| RunConfig { settings, ..RunConfig::default() }.beta();
        assert_eq!(beta(json!({"objective": {"kto": {"beta": 0.1, "kl_partners": 1}}})), Some(0.1));
        assert_eq!(beta(json!({"objective": "sft"})), None);
        assert_eq!(beta(json!({"objective": {"csft": {"good": "x"}}})), None);
        assert_eq!(beta(Value::Null), None);
    }

    #[test]
    fn earlier_versions_lack_keys() {
        let config: RunConfig = serde_json::from_value(json!({"seed": 3, "later": {}})).unwrap();
        assert_eq!((config.seed, config.steps, config.model_size()), (3, None, None));
    }
}
