//! Training settings, with TRL's names: as written ([`TrainFile`]) and resolved ([`Settings`]).

mod file;
mod objective;
mod objective_name;
mod options;

use prospect_objective::Humanline;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::TrainError;

pub use file::TrainFile;
pub use objective::{ClassWeighting, ControlTokens, FeedbackFormat, Objective, Z0};
pub use objective_name::ObjectiveName;

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
    /// Bounds for the log-ratios of tokens; `None` without clamping.
    pub humanline: Option<Humanline>,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Learning rate schedule after the warm-up.
    pub schedule: Schedule,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// Length of training.
    pub length: Length,
    /// Completions per optimizer step.
    pub batch_size: usize,
    /// Completions per forward pass.
    pub micro_batch_size: usize,
    /// Maximum global norm of the gradient.
    pub max_grad_norm: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// AdamW's β1 and β2.
    pub adam_betas: (f64, f64),
    /// AdamW's ε.
    pub adam_epsilon: f64,
    /// Maximum tokens of prompt and completion together.
    pub max_length: usize,
    /// Maximum tokens of the prompt.
    pub max_prompt_length: usize,
}

impl Settings {
    /// Learning rate of step `step` (from 0) of `total`.
    pub(crate) fn learning_rate_at(&self, step: u64, total: u64) -> f64 {
        if step < self.warmup_steps {
            return self.learning_rate * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let rest = total.saturating_sub(self.warmup_steps).max(1) as f64;
        let done = (step - self.warmup_steps) as f64 / rest;
        self.learning_rate
            * match self.schedule {
                Schedule::Constant => 1.0,
                Schedule::Linear => 1.0 - done,
                Schedule::Cosine => f64::midpoint(1.0, (std::f64::consts::PI * done).cos()),
            }
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
        let text = format!("learning_rate: 0.01\nbatch_size: 4\nmax_length: 64\n{text}");
        let document = prospect_core::config::Document::from_text("train.yaml", &text).unwrap();
        document.read::<TrainFile>().unwrap().resolve()
    }

    #[test]
    fn options_without_effect_are_errors() {
        for (text, word) in [
            ("objective: dpo\ndesirable_weight: 2", "it belongs to kto, apo_zero_unpaired"),
            ("objective: sft\nbeta: 0.1", "`beta` has no effect on `objective: sft`"),
            ("objective: dpo\nlabel_smoothing: 0.1", "cdpo, robust_dpo"),
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
        assert_eq!(shown("simpo"), r#"{"simpo":{"beta":2.0,"simpo_gamma":0.5}}"#);
        assert_eq!(shown("slic"), r#"{"slic":{"beta":1.0,"lambda_coef":0.1}}"#);
        assert_eq!(shown("csft"), r#"{"csft":{"desirable":"<|good|>","undesirable":"<|bad|>"}}"#);
        assert_eq!(shown("sft"), r#""sft""#);
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
        settings.schedule = Schedule::Cosine;
        assert_eq!(rates(&settings), [0.005, 0.01, 0.01, 0.008_536, 0.005, 0.001_464]);
        settings.schedule = Schedule::Constant;
        assert_eq!(rates(&settings), [0.005, 0.01, 0.01, 0.01, 0.01, 0.01]);
    }
}
