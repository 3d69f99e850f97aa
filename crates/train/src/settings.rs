//! Training settings, with TRL's names: as written ([`TrainFile`]) and resolved ([`Settings`]).

mod build;
mod choice;
mod file;
mod objective;
mod objective_name;
mod options;
mod preset;

use prospect_objective::Humanline;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::TrainError;

pub use choice::ObjectiveChoice;
pub use file::TrainFile;
pub use objective::{ClassWeighting, ControlTokens, FeedbackFormat, Objective, WeightedObjective, Z0};
pub use objective_name::ObjectiveName;
pub use preset::Preset;

/// Learning rate schedule after the warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Constant at the peak.
    #[default]
    Constant,
    /// Linear decay to 0.
    Linear,
    /// Cosine decay to 0.
    Cosine,
}

/// Optimizer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum OptimizerName {
    /// Adam with decoupled weight decay.
    #[default]
    Adamw,
    /// Gradient descent scaled by a running mean square, as in PyTorch.
    Rmsprop,
}

/// Optimizer with its hyperparameters, except the learning rate and the weight decay.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum OptimizerConfig {
    /// AdamW.
    Adamw {
        /// β1 and β2.
        adam_betas: (f64, f64),
        /// ε.
        adam_epsilon: f64,
    },
    /// RMSprop.
    Rmsprop {
        /// α.
        rmsprop_alpha: f64,
        /// ε.
        rmsprop_epsilon: f64,
    },
}

impl OptimizerConfig {
    /// Number of f32 values that the optimizer keeps per trained weight.
    pub(crate) fn moments(&self) -> u64 {
        match self {
            Self::Adamw { .. } => 2,
            Self::Rmsprop { .. } => 1,
        }
    }
}

/// Moves of the reference towards the policy during training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ReferenceSync {
    /// Optimizer steps between moves.
    pub every: u64,
    /// α: the reference becomes α·policy + (1 − α)·reference.
    pub alpha: f64,
}

/// Length of training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Length {
    /// Passes over the data.
    Epochs(f64),
    /// Optimizer steps.
    Steps(u64),
}

/// Resolved training settings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// Objective with its options.
    pub objective: Objective,
    /// Preset that the settings started from.
    #[serde(skip)]
    pub preset: Option<Preset>,
    /// Bounds for the log-ratios of tokens; `None` without clamping.
    pub humanline: Option<Humanline>,
    /// Moves of the reference; `None` if it stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync: Option<ReferenceSync>,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Learning rate schedule after the warm-up.
    pub schedule: Schedule,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// Share of the steps that warm up, instead of `warmup_steps`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_ratio: Option<f64>,
    /// Length of training.
    pub length: Length,
    /// Completions per optimizer step.
    pub batch_size: usize,
    /// Completions per forward pass.
    pub micro_batch_size: usize,
    /// Maximum global norm of the gradient.
    pub max_grad_norm: f64,
    /// Weight decay: decoupled with AdamW, added to the gradient with RMSprop.
    pub weight_decay: f64,
    /// Optimizer.
    #[serde(flatten)]
    pub optimizer: OptimizerConfig,
    /// Maximum tokens of prompt and completion together.
    pub max_length: usize,
    /// Maximum tokens of the prompt.
    pub max_prompt_length: usize,
}

impl Settings {
    /// Learning rate of step `step` (from 0) of `total`.
    pub(crate) fn learning_rate_at(&self, step: u64, total: u64) -> f64 {
        let warmup_steps = match self.warmup_ratio {
            Some(ratio) => (ratio * total as f64).ceil() as u64,
            None => self.warmup_steps,
        };
        if step < warmup_steps {
            return self.learning_rate * (step + 1) as f64 / warmup_steps as f64;
        }
        let rest = total.saturating_sub(warmup_steps).max(1) as f64;
        let done = (step - warmup_steps) as f64 / rest;
        self.learning_rate
            * match self.schedule {
                Schedule::Constant => 1.0,
                Schedule::Linear => 1.0 - done,
                Schedule::Cosine => f64::midpoint(1.0, (std::f64::consts::PI * done).cos()),
            }
    }

    /// Describes the settings that a preset resolved to, on one line; `None` without a preset.
    pub fn describe_preset(&self) -> Option<String> {
        let preset = self.preset?;
        let serde_json::Value::Object(keys) = serde_json::to_value(self).ok()? else { return None };
        let shown = keys.iter().filter(|(_, value)| !value.is_null());
        let shown: Vec<String> = shown.map(|(key, value)| format!("{key} {value}")).collect();
        Some(format!("preset {preset}: {}", shown.join(", ")).replace('"', ""))
    }

    /// Scales length and warm-up by `share`, from 0 to 1.
    #[must_use]
    pub fn shortened(self, share: f64) -> Self {
        let part = |steps: u64| (share * steps as f64).round() as u64;
        let length = match self.length {
            Length::Steps(steps) => Length::Steps(part(steps).max(1)),
            Length::Epochs(epochs) => Length::Epochs(share * epochs),
        };
        Self { length, warmup_steps: part(self.warmup_steps), ..self }
    }

    /// Optimizer steps of training, given the number of completions in an epoch.
    pub fn steps(&self, completions: usize) -> u64 {
        match self.length {
            Length::Steps(steps) => steps,
            Length::Epochs(epochs) => ((epochs * self.batches(completions) as f64).round() as u64).max(1),
        }
    }

    /// Epochs of training, given the number of completions in an epoch.
    pub fn epochs(&self, completions: usize) -> f64 {
        self.steps(completions) as f64 / self.batches(completions).max(1) as f64
    }

    /// Optimizer steps per epoch.
    fn batches(&self, completions: usize) -> usize {
        completions.div_ceil(self.batch_size)
    }
}

/// Returns true for the default of a type, which the identity of a run leaves out.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Returns a settings error.
fn fail<T>(message: impl Into<String>) -> Result<T, TrainError> {
    Err(TrainError::Settings(message.into()))
}

fn positive(name: &str, value: f64) -> Result<f64, TrainError> {
    if value.is_finite() && value > 0.0 {
        Ok(value)
    } else {
        fail(format!("`{name}` must be above 0, not {value}"))
    }
}

fn not_negative(name: &str, value: f64) -> Result<f64, TrainError> {
    if value.is_finite() && value >= 0.0 {
        Ok(value)
    } else {
        fail(format!("`{name}` must be at least 0, not {value}"))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn settings(text: &str) -> Result<Settings, TrainError> {
        parsed(&format!("learning_rate: 0.01\nbatch_size: 4\nmax_length: 64\n{text}"))
    }

    pub(crate) fn parsed(text: &str) -> Result<Settings, TrainError> {
        let document = prospect_core::config::Document::from_text("train.yaml", text).unwrap();
        document.read::<TrainFile>().unwrap().resolve()
    }

    #[test]
    fn options_without_effect_are_errors() {
        for (text, word) in [
            ("objective: dpo\ndesirable_weight: 2", "it belongs to kto, apo_zero_unpaired"),
            ("objective: sft\nbeta: 0.1", "`beta` has no effect on `objective: sft`"),
            ("objective: dpo\nlabel_smoothing: 0.1", "cdpo, robust_dpo, exo_pair, aot, aot_unpaired"),
            ("objective: ppo\nbeta: 0.1", "`beta` has no effect on `objective: ppo`"),
            ("objective: { dpo: 1, sft: 0.2 }\nsimpo_gamma: 1", "`objective: { dpo: 1, sft: 0.2 }`"),
            ("objective: dpo\nclip_ratio: [0.5, 2]", "it belongs to ppo"),
            ("objective: kto\noptimizer: rmsprop\nadam_beta1: 0.5", "it belongs to adamw"),
            ("objective: kto\nrmsprop_alpha: 0.5", "it belongs to rmsprop"),
            ("objective: kto\nsync_alpha: 0.5", "sync_every"),
            ("objective: orpo\nsync_every: 2", "kto, apo_zero_unpaired, bco, ppo, dpo"),
            ("objective: kto\nreference_free: true\nsync_every: 2", "reference_free"),
            ("objective: kto\nwarmup_steps: 3\nwarmup_ratio: 0.1", "not both"),
            ("objective: simpo\nhumanline: true", "humanline"),
            ("objective: dpo\ncontrol_tokens: {desirable: a}", "csft"),
            ("objective: bco\nz0: global", "kto"),
            ("objective: kto\nworld_size: 8", "divided_by_world_size"),
            ("objective: kto\nz0: divided_by_world_size", "world_size"),
            ("objective: kto\nclass_balance: 1.2", "class_balance"),
            ("objective: kto\nmax_steps: 3\nnum_train_epochs: 1", "not both"),
            ("objective: kto\nmax_prompt_length: 64", "no room"),
        ] {
            let error = settings(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn values_that_make_no_sense_are_errors() {
        for (text, word) in [
            ("objective: dpo\nmicro_batch_size: 3", "even"),
            ("objective: kto\nmicro_batch_size: 1\nz0: micro_batch", "partner"),
            ("objective: kto\nbeta: -1", "beta"),
            ("objective: exo_pair\nlabel_smoothing: 0", "above 0"),
            ("objective: ppo\nclip_ratio: [1.5, 2]", "low below 1"),
            ("objective: ppo\ndiscount: 0", "above 0"),
            ("objective: kto\nsync_every: 2\nsync_alpha: 0", "above 0"),
            ("objective: kto\nwarmup_ratio: 2", "between 0 and 1"),
            ("objective: { dpo: 1 }", "two parts"),
            ("objective: { dpo: 1, kto: 1 }", "different feedback"),
            ("objective: { dpo: 1, sft: 0 }", "`objective.sft` must be above 0"),
            ("objective: { kto: 1, ppo: 1 }", "the log-probs of tokens"),
            ("objective: { dpo: 1, sft: 1 }\nhumanline: true", "sft has no log-ratios"),
            ("objective: kto\nkl_partners: 0", "apo_zero_unpaired"),
            ("objective: robust_dpo\nlabel_smoothing: 0.5", "below 0.5"),
            ("objective: kto\nhumanline: [1.0, 2.0]", "low below 0"),
            ("objective: csft\ncontrol_tokens: {undesirable: <|good|>}", "could not tell"),
        ] {
            let error = settings(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn options_have_their_defaults_and_objectives_the_names_of_configs() {
        let objective = |text: &str| {
            serde_json::to_value(settings(&format!("objective: {text}")).unwrap().objective).unwrap()
        };
        let shown = |text| objective(text).to_string();
        assert_eq!(
            shown("kto\nz0: divided_by_world_size\nworld_size: 4\nkl_partners: 3"),
            r#"{"kto":{"beta":0.1,"desirable_weight":1.0,"undesirable_weight":1.0,"class_balance":1.0,"z0":{"divided_by_world_size":4},"kl_partners":3}}"#
        );
        assert_eq!(shown("robust_dpo"), r#"{"robust_dpo":{"beta":0.1,"label_smoothing":0.1}}"#);
        assert_eq!(
            shown("kto\nvalue_function: identity\nreference_free: true"),
            r#"{"kto":{"beta":0.1,"desirable_weight":1.0,"undesirable_weight":1.0,"class_balance":1.0,"z0":"global","kl_partners":1,"value_function":"identity","reference_free":true}}"#
        );
        assert_eq!(shown("ppo"), r#"{"ppo":{"clip_ratio":[0.25,4.0],"kl_coef":0.1,"discount":0.9405}}"#);
        assert_eq!(shown("exo_pair"), r#"{"exo_pair":{"beta":0.1,"label_smoothing":0.001}}"#);
        assert_eq!(shown("aot"), r#"{"aot":{"beta":0.1,"label_smoothing":0.0}}"#);
        assert_eq!(
            shown("{ sft: 0.2, dpo: 1 }"),
            r#"{"sum":{"beta":0.1,"parts":[{"weight":1.0,"objective":{"dpo":{"beta":0.1}}},{"weight":0.2,"objective":"sft"}]}}"#
        );
        assert_eq!(shown("simpo"), r#"{"simpo":{"beta":2.0,"simpo_gamma":0.5}}"#);
        assert_eq!(shown("slic"), r#"{"slic":{"beta":1.0,"lambda_coef":0.1}}"#);
        assert_eq!(shown("csft"), r#"{"csft":{"desirable":"<|good|>","undesirable":"<|bad|>"}}"#);
        assert_eq!(shown("sft"), r#""sft""#);
    }

    #[test]
    fn settings_of_before_serialise_as_before() {
        // Runs are named by these bytes.
        let text = serde_json::to_string(&settings("objective: sft").unwrap()).unwrap();
        assert_eq!(
            text,
            r#"{"objective":"sft","humanline":null,"learning_rate":0.01,"schedule":"constant","warmup_steps":0,"length":{"epochs":1.0},"batch_size":4,"micro_batch_size":4,"max_grad_norm":1.0,"weight_decay":0.0,"adam_betas":[0.9,0.999],"adam_epsilon":1e-8,"max_length":64,"max_prompt_length":32}"#
        );
    }

    #[test]
    fn an_unknown_objective_is_an_error_that_lists_them() {
        let document = prospect_core::config::Document::from_text("train.yaml", "objective: kt").unwrap();
        let error = document.read::<TrainFile>().unwrap_err().to_string();
        assert!(error.contains("kto") && error.contains("dpo"), "{error}");
    }

    #[test]
    fn a_preset_is_described_by_its_resolved_values() {
        let described =
            parsed("preset: paper-v1\nobjective: dpo\nmax_length: 256").unwrap().describe_preset();
        assert_eq!(
            described.unwrap(),
            "preset paper-v1: objective {dpo:{beta:0.1}}, learning_rate 5e-7, schedule constant, warmup_steps 150, \
             length {epochs:1.0}, batch_size 64, micro_batch_size 64, max_grad_norm 10.0, weight_decay 0.0, \
             rmsprop_alpha 0.99, rmsprop_epsilon 1e-8, max_length 256, max_prompt_length 128"
        );
        assert_eq!(settings("objective: dpo").unwrap().describe_preset(), None);
    }

    #[test]
    fn keys_without_default_are_needed_without_a_preset() {
        for (text, word) in [
            ("objective: kto\nbatch_size: 4\nmax_length: 64", "`learning_rate` is missing"),
            ("objective: kto\nlearning_rate: 1\nmax_length: 64", "`batch_size` is missing"),
            ("objective: kto\nlearning_rate: 1\nbatch_size: 4", "`max_length` is missing"),
        ] {
            let error = parsed(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        assert!(parsed("objective: kto\npreset: trl").is_ok());
    }

    #[test]
    fn humanline_is_a_switch_or_bounds() {
        let humanline = |text: &str| settings(&format!("objective: dpo\n{text}")).unwrap().humanline;
        assert_eq!(humanline(""), None);
        assert_eq!(humanline("humanline: false"), None);
        assert_eq!(humanline("humanline: true"), Some(Humanline { low: -1.0, high: 1.5 }));
        assert_eq!(humanline("humanline: [-2, 0.5]"), Some(Humanline { low: -2.0, high: 0.5 }));
    }

    #[test]
    fn length_is_in_steps_or_epochs() {
        // Ten completions are three batches of at most four.
        let once = settings("objective: kto").unwrap();
        assert_eq!((once.steps(10), once.epochs(10)), (3, 1.0));
        let six = settings("objective: kto\nmax_steps: 6").unwrap();
        assert_eq!((six.steps(10), six.epochs(10)), (6, 2.0));
        assert_eq!(six.clone().shortened(1.0), six);
        assert_eq!(six.shortened(1.0 / 3.0).steps(10), 2);
        assert_eq!(once.shortened(0.01).steps(10), 1);
    }

    #[test]
    fn the_learning_rate_warms_up_and_decays() {
        let mut settings = settings("objective: kto\nwarmup_steps: 2\nlr_scheduler_type: linear").unwrap();
        let rates = |settings: &Settings| -> Vec<f64> {
            (0..6).map(|step| (1e6 * settings.learning_rate_at(step, 6)).round() / 1e6).collect()
        };
        assert_eq!(rates(&settings), [0.005, 0.01, 0.01, 0.0075, 0.005, 0.0025]);
        settings.warmup_ratio = Some(0.3);
        assert_eq!(rates(&settings)[..3], [0.005, 0.01, 0.01], "0.3·6 steps are rounded up to 2");
        settings.warmup_ratio = None;
        settings.schedule = Schedule::Cosine;
        assert_eq!(rates(&settings), [0.005, 0.01, 0.01, 0.008_536, 0.005, 0.001_464]);
        settings.schedule = Schedule::Constant;
        assert_eq!(rates(&settings), [0.005, 0.01, 0.01, 0.01, 0.01, 0.01]);
    }
}
