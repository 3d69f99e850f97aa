//! Training settings as written in YAML, and their resolution.

use prospect_objective::{ClassWeight, KtoValue};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    ControlTokens, FeedbackFormat, Length, Objective, ObjectiveChoice, OptimizerConfig, OptimizerName,
    Preset, ReferenceSync, Schedule, Settings, Z0,
    build::{HumanlineFile, Z0File},
    fail, not_negative,
    options::describe_options,
    positive,
};
use crate::TrainError;

/// Training settings. An option without effect on the objective is an error.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = describe_options)]
pub struct TrainFile {
    /// Objective to minimise, or weights by objective for a sum.
    pub objective: ObjectiveChoice,
    /// Published settings that keys which are not set take their values from.
    pub preset: Option<Preset>,
    /// β, the factor from log-ratios to rewards (0.1; simpo 2, slic 1).
    pub beta: Option<f64>,
    /// λ_D, weight of desirable completions: a number (1), or `auto`.
    pub desirable_weight: Option<ClassWeight>,
    /// λ_U, weight of undesirable completions: a number (1), or `auto`.
    pub undesirable_weight: Option<ClassWeight>,
    /// Target of `auto` for (λ_D·n_D)/(λ_U·n_U) (1). The paper advises 1 to 4/3, later 1 to 3/2.
    pub class_balance: Option<f64>,
    /// Scope of the reference point z0 (`global`).
    pub(super) z0: Option<Z0File>,
    /// Number of devices of the reproduced run, with `z0: divided_by_world_size`.
    pub world_size: Option<usize>,
    /// Mismatched completions per example (1). More make z0 less noisy, at one forward pass each.
    pub kl_partners: Option<usize>,
    /// Value function of KTO (`sigmoid`). The others are ablations.
    pub value_function: Option<KtoValue>,
    /// Uses log π in place of log-ratios, as if the reference were uniform (false). z0 is then the
    /// mean log π of mismatched completions.
    pub reference_free: Option<bool>,
    /// Bounds [low, high] of the ratio π/π_ref of a token ([0.25, 4]).
    pub clip_ratio: Option<[f64; 2]>,
    /// Weight of the KL penalty (0.1).
    pub kl_coef: Option<f64>,
    /// γ·λ of advantage estimation (0.9405): the factor from a token's advantage to that of the
    /// token before. 1 gives all tokens the advantage of the completion.
    pub discount: Option<f64>,
    /// ε, share of pairs with a wrong label (0.1; exo_pair 0.001, aot and aot_unpaired 0). At least
    /// 0 and below 0.5.
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
    /// Moves the reference towards the policy every this many optimizer steps (never).
    pub sync_every: Option<u64>,
    /// α, share of the policy in the reference after a move (1, which copies the policy).
    pub sync_alpha: Option<f64>,
    /// Optimizer (`adamw`).
    pub optimizer: Option<OptimizerName>,
    /// Peak learning rate. Needed without a preset.
    pub learning_rate: Option<f64>,
    /// Learning rate schedule after the warm-up (`constant`).
    pub lr_scheduler_type: Option<Schedule>,
    /// Optimizer steps of linear warm-up (0). Set this or `warmup_ratio`, not both.
    pub warmup_steps: Option<u64>,
    /// Share of the optimizer steps that warm up linearly. Set this or `warmup_steps`, not both.
    pub warmup_ratio: Option<f64>,
    /// Epochs: passes over the training data (1). Set this or `max_steps`, not both.
    pub num_train_epochs: Option<f64>,
    /// Optimizer steps, over as many epochs as needed. Set this or `num_train_epochs`, not both.
    pub max_steps: Option<u64>,
    /// Completions per optimizer step: rows, or twice the number of pairs. Needed without a preset.
    pub batch_size: Option<usize>,
    /// Completions per forward pass (`batch_size`). Smaller values need less memory.
    pub micro_batch_size: Option<usize>,
    /// Maximum global norm of the gradient; larger gradients are scaled down (1).
    pub max_grad_norm: Option<f64>,
    /// Weight decay (0): decoupled with AdamW, added to the gradient with RMSprop.
    pub weight_decay: Option<f64>,
    /// β1 of AdamW: decay of the first moment (0.9).
    pub adam_beta1: Option<f64>,
    /// β2 of AdamW: decay of the second moment (0.999).
    pub adam_beta2: Option<f64>,
    /// ε of AdamW (1e-8).
    pub adam_epsilon: Option<f64>,
    /// α of RMSprop: decay of the mean square (0.99).
    pub rmsprop_alpha: Option<f64>,
    /// ε of RMSprop (1e-8).
    pub rmsprop_epsilon: Option<f64>,
    /// Maximum tokens of prompt and completion together. Longer completions lose their tail. Needed
    /// without a preset.
    pub max_length: Option<usize>,
    /// Maximum tokens of the prompt (half of `max_length`). Longer prompts lose their oldest turns.
    pub max_prompt_length: Option<usize>,
}

/// Returns the value of a key without default.
fn required<T>(name: &str, value: Option<T>) -> Result<T, TrainError> {
    match value {
        Some(value) => Ok(value),
        None => fail(format!("`{name}` is missing; set it, or a `preset`")),
    }
}

impl TrainFile {
    /// Checks the settings and fills in defaults. An option without effect is an error.
    pub fn resolve(self) -> Result<Settings, TrainError> {
        let file = self.with_preset()?;
        let objective = file.objective()?;
        let humanline = file.humanline.map(HumanlineFile::resolve).transpose()?.flatten();
        let learning_rate = positive("learning_rate", required("learning_rate", file.learning_rate)?)?;
        let (batch_size, max_length) =
            (required("batch_size", file.batch_size)?, required("max_length", file.max_length)?);
        let micro_batch_size = file.micro_batch_size.unwrap_or(batch_size);
        check_batches(&objective, batch_size, micro_batch_size)?;
        let max_prompt_length = file.max_prompt_length.unwrap_or(max_length / 2);
        positive("max_prompt_length", max_prompt_length as f64)?;
        if max_prompt_length >= max_length {
            return fail(format!(
                "`max_prompt_length` ({max_prompt_length}) leaves no room for a completion in `max_length` ({max_length})"
            ));
        }
        let (warmup_steps, warmup_ratio) = file.warmup()?;
        Ok(Settings {
            sync: file.sync(&objective)?,
            length: file.length()?,
            optimizer: file.optimizer()?,
            max_grad_norm: positive("max_grad_norm", file.max_grad_norm.unwrap_or(1.0))?,
            weight_decay: not_negative("weight_decay", file.weight_decay.unwrap_or(0.0))?,
            schedule: file.lr_scheduler_type.unwrap_or_default(),
            preset: file.preset,
            objective,
            humanline,
            learning_rate,
            warmup_steps,
            warmup_ratio,
            batch_size,
            micro_batch_size: micro_batch_size.min(batch_size),
            max_length,
            max_prompt_length,
        })
    }

    fn length(&self) -> Result<Length, TrainError> {
        match (self.num_train_epochs, self.max_steps) {
            (Some(_), Some(_)) => fail("set `num_train_epochs` or `max_steps`, not both"),
            (None, Some(0)) => fail("`max_steps` must be above 0, not 0"),
            (None, Some(steps)) => Ok(Length::Steps(steps)),
            (epochs, None) => Ok(Length::Epochs(positive("num_train_epochs", epochs.unwrap_or(1.0))?)),
        }
    }

    fn warmup(&self) -> Result<(u64, Option<f64>), TrainError> {
        match (self.warmup_steps, self.warmup_ratio) {
            (Some(_), Some(_)) => fail("set `warmup_steps` or `warmup_ratio`, not both"),
            (_, Some(ratio)) if !(0.0..=1.0).contains(&ratio) => {
                fail(format!("`warmup_ratio` must be between 0 and 1, not {ratio}"))
            }
            (steps, ratio) => Ok((steps.unwrap_or(0), ratio)),
        }
    }

    fn sync(&self, objective: &Objective) -> Result<Option<ReferenceSync>, TrainError> {
        let alpha = self.sync_alpha.unwrap_or(1.0);
        match self.sync_every {
            Some(0) => fail("`sync_every` must be at least 1, not 0"),
            Some(_) if !objective.needs_reference() => {
                fail("`sync_every` has no effect without a reference; remove it or `reference_free`")
            }
            Some(_) if !(alpha > 0.0 && alpha <= 1.0) => {
                fail(format!("`sync_alpha` must be above 0 and at most 1, not {alpha}"))
            }
            Some(every) => Ok(Some(ReferenceSync { every, alpha })),
            None if self.sync_alpha.is_some() => fail("`sync_alpha` has an effect only with `sync_every`"),
            None => Ok(None),
        }
    }

    fn optimizer(&self) -> Result<OptimizerConfig, TrainError> {
        let name = self.optimizer.unwrap_or_default();
        let adam = [
            ("adam_beta1", self.adam_beta1),
            ("adam_beta2", self.adam_beta2),
            ("adam_epsilon", self.adam_epsilon),
        ];
        let rmsprop = [("rmsprop_alpha", self.rmsprop_alpha), ("rmsprop_epsilon", self.rmsprop_epsilon)];
        let (idle, owner): (&[(&str, Option<f64>)], _) = match name {
            OptimizerName::Adamw => (&rmsprop, "rmsprop"),
            OptimizerName::Rmsprop => (&adam, "adamw"),
        };
        if let Some((key, _)) = idle.iter().find(|(_, value)| value.is_some()) {
            return fail(format!("`{key}` has no effect on `optimizer: {name}`; it belongs to {owner}"));
        }
        let decay = |name: &str, value: Option<f64>, default: f64| match value.unwrap_or(default) {
            decay if (0.0..1.0).contains(&decay) => Ok(decay),
            decay => fail(format!("`{name}` must be at least 0 and below 1, not {decay}")),
        };
        Ok(match name {
            OptimizerName::Adamw => OptimizerConfig::Adamw {
                adam_betas: (
                    decay("adam_beta1", self.adam_beta1, 0.9)?,
                    decay("adam_beta2", self.adam_beta2, 0.999)?,
                ),
                adam_epsilon: positive("adam_epsilon", self.adam_epsilon.unwrap_or(1e-8))?,
            },
            OptimizerName::Rmsprop => OptimizerConfig::Rmsprop {
                rmsprop_alpha: decay("rmsprop_alpha", self.rmsprop_alpha, 0.99)?,
                rmsprop_epsilon: positive("rmsprop_epsilon", self.rmsprop_epsilon.unwrap_or(1e-8))?,
            },
        })
    }
}

/// Checks that batches are not empty, and large enough for pairs and for mismatched completions.
fn check_batches(
    objective: &Objective,
    batch_size: usize,
    micro_batch_size: usize,
) -> Result<(), TrainError> {
    let paired = objective.feedback_format() == FeedbackFormat::Paired;
    for (name, size) in [("batch_size", batch_size), ("micro_batch_size", micro_batch_size)] {
        if size == 0 {
            return fail(format!("`{name}` must be at least 1"));
        }
        if paired && size % 2 == 1 {
            return fail(format!("`{name}` counts completions; for pairs it must be even, not {size}"));
        }
    }
    let (name, size) = match objective.z0() {
        None => return Ok(()),
        Some(Z0::MicroBatch) => ("micro_batch_size", micro_batch_size),
        Some(Z0::Global | Z0::DividedByWorldSize(_)) => ("batch_size", batch_size),
    };
    if size < 2 {
        return fail(format!("`{name}` must be at least 2, not {size}: z0 needs a partner for each example"));
    }
    Ok(())
}
