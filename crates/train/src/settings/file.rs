//! Training settings as written in YAML, and their resolution.

use prospect_objective::ClassWeight;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    ControlTokens, FeedbackFormat, Length, Objective, ObjectiveName, Schedule, Settings, Z0, fail,
    options::{HumanlineFile, Z0File, describe_options},
    positive,
};
use crate::TrainError;

/// Training settings. An option without effect on the objective is an error.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = describe_options)]
pub struct TrainFile {
    /// Objective to minimise.
    pub objective: ObjectiveName,
    /// β, the factor from log-ratios to rewards (0.1; simpo 2, slic 1).
    pub beta: Option<f64>,
    /// λ_D, weight of desirable completions: a number (1), or `auto`.
    pub desirable_weight: Option<ClassWeight>,
    /// λ_U, weight of undesirable completions: a number (1), or `auto`.
    pub undesirable_weight: Option<ClassWeight>,
    /// Target of `auto` for (λ_D·n_D)/(λ_U·n_U) (1). The paper advises 1 to 4/3.
    pub class_balance: Option<f64>,
    /// Scope of the reference point z0 (`global`).
    pub(super) z0: Option<Z0File>,
    /// Number of devices of the reproduced run, with `z0: divided_by_world_size`.
    pub world_size: Option<usize>,
    /// Mismatched completions per example (1). More make z0 less noisy, at one forward pass each.
    pub kl_partners: Option<usize>,
    /// ε, share of pairs with a wrong label (0.1). At least 0 and below 0.5.
    pub label_smoothing: Option<f64>,
    /// γ, target margin (0.5).
    pub simpo_gamma: Option<f64>,
    /// λ, weight of the likelihood of chosen completions (0.1).
    pub lambda_coef: Option<f64>,
    /// Control texts for desirable and undesirable completions (`<|good|>` and `<|bad|>`).
    pub control_tokens: Option<ControlTokens>,
    /// Clamps the log-ratio of every token to `[low, high]` (false). `true` is [-1, 1.5], as in
    /// HALOs.
    pub(super) humanline: Option<HumanlineFile>,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Learning rate schedule after the warm-up.
    #[serde(default)]
    pub lr_scheduler_type: Schedule,
    /// Optimizer steps of linear warm-up (0).
    #[serde(default)]
    pub warmup_steps: u64,
    /// Epochs: passes over the training data (1). Set this or `max_steps`, not both.
    pub num_train_epochs: Option<f64>,
    /// Optimizer steps, over as many epochs as needed. Set this or `num_train_epochs`, not both.
    pub max_steps: Option<u64>,
    /// Completions per optimizer step: rows, or twice the number of pairs.
    pub batch_size: usize,
    /// Completions per forward pass (`batch_size`). Smaller values need less memory.
    pub micro_batch_size: Option<usize>,
    /// Maximum global norm of the gradient; larger gradients are scaled down (1).
    #[serde(default = "one")]
    pub max_grad_norm: f64,
    /// Decoupled weight decay (0).
    #[serde(default)]
    pub weight_decay: f64,
    /// β1 of AdamW: decay of the first moment (0.9).
    #[serde(default = "adam_beta1")]
    pub adam_beta1: f64,
    /// β2 of AdamW: decay of the second moment (0.999).
    #[serde(default = "adam_beta2")]
    pub adam_beta2: f64,
    /// ε of AdamW (1e-8).
    #[serde(default = "adam_epsilon")]
    pub adam_epsilon: f64,
    /// Maximum tokens of prompt and completion together. Longer completions lose their tail.
    pub max_length: usize,
    /// Maximum tokens of the prompt (half of `max_length`). Longer prompts lose their oldest turns.
    pub max_prompt_length: Option<usize>,
}

fn one() -> f64 {
    1.0
}

fn adam_beta1() -> f64 {
    0.9
}

fn adam_beta2() -> f64 {
    0.999
}

fn adam_epsilon() -> f64 {
    1e-8
}

impl TrainFile {
    /// Checks the settings and fills in defaults. An option without effect is an error.
    pub fn resolve(self) -> Result<Settings, TrainError> {
        let objective = self.objective()?;
        let humanline = self.humanline.map(HumanlineFile::resolve).transpose()?.flatten();
        let length = match (self.num_train_epochs, self.max_steps) {
            (Some(_), Some(_)) => return fail("set `num_train_epochs` or `max_steps`, not both"),
            (None, Some(steps)) => Length::Steps(steps),
            (epochs, None) => Length::Epochs(epochs.unwrap_or(1.0)),
        };
        let micro_batch_size = self.micro_batch_size.unwrap_or(self.batch_size);
        let max_prompt_length = self.max_prompt_length.unwrap_or(self.max_length / 2);
        for (name, value) in [
            ("learning_rate", self.learning_rate),
            ("max_grad_norm", self.max_grad_norm),
            ("num_train_epochs", self.num_train_epochs.unwrap_or(1.0)),
            ("max_steps", self.max_steps.unwrap_or(1) as f64),
            ("max_prompt_length", max_prompt_length as f64),
            ("adam_epsilon", self.adam_epsilon),
        ] {
            positive(name, value)?;
        }
        self.check_batches(&objective, micro_batch_size)?;
        if max_prompt_length >= self.max_length {
            return fail(format!(
                "`max_prompt_length` ({max_prompt_length}) leaves no room for a completion in `max_length` ({})",
                self.max_length
            ));
        }
        for (name, beta) in [("adam_beta1", self.adam_beta1), ("adam_beta2", self.adam_beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return fail(format!("`{name}` must be at least 0 and below 1, not {beta}"));
            }
        }
        Ok(Settings {
            objective,
            humanline,
            learning_rate: self.learning_rate,
            schedule: self.lr_scheduler_type,
            warmup_steps: self.warmup_steps,
            length,
            batch_size: self.batch_size,
            micro_batch_size: micro_batch_size.min(self.batch_size),
            max_grad_norm: self.max_grad_norm,
            weight_decay: self.weight_decay,
            adam_betas: (self.adam_beta1, self.adam_beta2),
            adam_epsilon: self.adam_epsilon,
            max_length: self.max_length,
            max_prompt_length,
        })
    }

    /// Checks that batches are not empty, and large enough for pairs and for mismatched
    /// completions.
    fn check_batches(&self, objective: &Objective, micro_batch_size: usize) -> Result<(), TrainError> {
        let paired = objective.feedback_format() == FeedbackFormat::Paired;
        for (name, size) in [("batch_size", self.batch_size), ("micro_batch_size", micro_batch_size)] {
            if size == 0 {
                return fail(format!("`{name}` must be at least 1"));
            }
            if paired && size % 2 == 1 {
                return fail(format!("`{name}` counts completions; for pairs it must be even, not {size}"));
            }
        }
        if let Objective::Kto { z0, .. } = objective {
            let (name, size) = match z0 {
                Z0::MicroBatch => ("micro_batch_size", micro_batch_size),
                Z0::Global | Z0::DividedByWorldSize(_) => ("batch_size", self.batch_size),
            };
            if size < 2 {
                return fail(format!(
                    "`{name}` must be at least 2, not {size}: z0 needs a partner for each example"
                ));
            }
        }
        Ok(())
    }
}
