//! Training settings, under TRL's names.

use prospect_objective::{ClassWeights, Weight};
use serde::{Deserialize, Serialize};

use crate::TrainError;

/// Training settings as typed in an experiment file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainFile {
    /// What is minimised: `kto`, `dpo` or `sft`.
    pub objective: ObjectiveName,
    /// β of KTO and DPO (0.1).
    pub beta: Option<f64>,
    /// λ_D of KTO: a number (1), or `auto`.
    pub desirable_weight: Option<Weight>,
    /// λ_U of KTO: a number (1), or `auto`.
    pub undesirable_weight: Option<Weight>,
    /// What `auto` makes of (λ_D·n_D)/(λ_U·n_U): 1 to 4/3 by the paper's advice (1).
    pub class_balance: Option<f64>,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// How the learning rate goes on after the warm-up.
    #[serde(default)]
    pub lr_scheduler_type: Schedule,
    /// Optimizer steps over which the learning rate grows to its peak.
    #[serde(default)]
    pub warmup_steps: u64,
    /// Passes over the training data (1). Give this or `max_steps`.
    pub num_train_epochs: Option<f64>,
    /// Optimizer steps, over as many passes as that takes.
    pub max_steps: Option<u64>,
    /// Completions in an optimizer step: KTO's rows, or twice DPO's pairs.
    pub batch_size: usize,
    /// Completions that pass through the model at once (`batch_size`).
    pub micro_batch_size: Option<usize>,
    /// Gradients of a larger global norm are scaled down to it (1).
    #[serde(default = "one")]
    pub max_grad_norm: f64,
    /// Decoupled weight decay (0).
    #[serde(default)]
    pub weight_decay: f64,
    /// Decay of AdamW's first moment (0.9).
    #[serde(default = "adam_beta1")]
    pub adam_beta1: f64,
    /// Decay of AdamW's second moment (0.999).
    #[serde(default = "adam_beta2")]
    pub adam_beta2: f64,
    /// AdamW's ε (1e-8).
    #[serde(default = "adam_epsilon")]
    pub adam_epsilon: f64,
    /// Tokens of prompt and completion together; longer completions lose their tail.
    pub max_length: usize,
    /// Tokens of the prompt (half of `max_length`); longer prompts lose their oldest turns.
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

/// What is minimised, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectiveName {
    /// Kahneman-Tversky optimisation.
    Kto,
    /// Direct preference optimisation.
    Dpo,
    /// Supervised fine-tuning on desirable completions.
    Sft,
}

/// How the learning rate goes on after the warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// It stays.
    #[default]
    Constant,
    /// It falls to 0 along a line.
    Linear,
    /// It falls to 0 along half a cosine.
    Cosine,
}

/// What is minimised. Class weights may wait for the counts of the training data.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// KTO.
    Kto {
        /// β.
        beta: f64,
        /// λ_D.
        desirable_weight: Weight,
        /// λ_U.
        undesirable_weight: Weight,
        /// The target of `auto`.
        class_balance: f64,
    },
    /// DPO.
    Dpo {
        /// β.
        beta: f64,
    },
    /// SFT.
    Sft,
}

impl Objective {
    /// λ_D and λ_U for training data of `counts` = (n_D, n_U) rows; None for objectives without class weights.
    pub fn class_weights(&self, counts: (usize, usize)) -> Option<ClassWeights> {
        match self {
            Self::Kto { desirable_weight, undesirable_weight, class_balance, .. } => {
                Some(ClassWeights::resolve(*desirable_weight, *undesirable_weight, counts, *class_balance))
            }
            Self::Dpo { .. } | Self::Sft => None,
        }
    }

    /// β, with which log-ratios become rewards; 1 for SFT, which has none.
    pub fn beta(&self) -> f64 {
        match self {
            Self::Kto { beta, .. } | Self::Dpo { beta } => *beta,
            Self::Sft => 1.0,
        }
    }
}

/// How long to train.
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
    /// What is minimised.
    pub objective: Objective,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// After the warm-up.
    pub schedule: Schedule,
    /// Steps of warm-up.
    pub warmup_steps: u64,
    /// How long.
    pub length: Length,
    /// Completions in an optimizer step.
    pub batch_size: usize,
    /// Completions that pass through the model at once.
    pub micro_batch_size: usize,
    /// Largest global norm of the gradient.
    pub max_grad_norm: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// AdamW's β1, β2.
    pub adam_betas: (f64, f64),
    /// AdamW's ε.
    pub adam_epsilon: f64,
    /// Tokens of prompt and completion.
    pub max_length: usize,
    /// Tokens of the prompt.
    pub max_prompt_length: usize,
}

impl TrainFile {
    /// Checks and resolves. Options without effect on the objective are errors.
    pub fn resolve(self) -> Result<Settings, TrainError> {
        let fail = |message: String| Err(TrainError::Settings(message));
        let weighted = [
            ("desirable_weight", self.desirable_weight.is_some()),
            ("undesirable_weight", self.undesirable_weight.is_some()),
            ("class_balance", self.class_balance.is_some()),
        ];
        if self.objective != ObjectiveName::Kto
            && let Some((name, _)) = weighted.iter().find(|(_, given)| *given)
        {
            return fail(format!(
                "`{name}` has no effect on the objective; only `objective: kto` has class weights"
            ));
        }
        if self.objective == ObjectiveName::Sft && self.beta.is_some() {
            return fail("`beta` has no effect on `objective: sft`".to_owned());
        }
        let auto = |weight: Option<Weight>| matches!(weight, Some(Weight::Auto(_)));
        if self.class_balance.is_some() && !auto(self.desirable_weight) && !auto(self.undesirable_weight) {
            return fail(
                "`class_balance` is the target of `auto`; set desirable_weight or undesirable_weight to auto"
                    .to_owned(),
            );
        }
        let beta = self.beta.unwrap_or(0.1);
        let one = Weight::Given(1.0);
        let objective = match self.objective {
            ObjectiveName::Kto => Objective::Kto {
                beta,
                desirable_weight: self.desirable_weight.unwrap_or(one),
                undesirable_weight: self.undesirable_weight.unwrap_or(one),
                class_balance: self.class_balance.unwrap_or(1.0),
            },
            ObjectiveName::Dpo => Objective::Dpo { beta },
            ObjectiveName::Sft => Objective::Sft,
        };
        let length = match (self.num_train_epochs, self.max_steps) {
            (Some(_), Some(_)) => return fail("give `num_train_epochs` or `max_steps`, not both".to_owned()),
            (None, Some(steps)) => Length::Steps(steps),
            (epochs, None) => Length::Epochs(epochs.unwrap_or(1.0)),
        };
        let micro_batch_size = self.micro_batch_size.unwrap_or(self.batch_size);
        let max_prompt_length = self.max_prompt_length.unwrap_or(self.max_length / 2);
        let positive = [
            ("beta", beta),
            ("learning_rate", self.learning_rate),
            ("max_grad_norm", self.max_grad_norm),
            ("num_train_epochs", self.num_train_epochs.unwrap_or(1.0)),
            ("max_steps", self.max_steps.unwrap_or(1) as f64),
            ("class_balance", self.class_balance.unwrap_or(1.0)),
            ("max_prompt_length", max_prompt_length as f64),
            ("adam_epsilon", self.adam_epsilon),
        ];
        if let Some((name, value)) = positive.iter().find(|(_, value)| !(value.is_finite() && *value > 0.0)) {
            return fail(format!("`{name}` must be above 0, not {value}"));
        }
        for (name, size) in [("batch_size", self.batch_size), ("micro_batch_size", micro_batch_size)] {
            if size < 2 {
                return fail(format!(
                    "`{name}` must be at least 2 completions, not {size}: a pair has two, and KTO needs a partner"
                ));
            }
            if self.objective == ObjectiveName::Dpo && size % 2 == 1 {
                return fail(format!(
                    "`{name}` counts completions; for DPO's pairs it must be even, not {size}"
                ));
            }
        }
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
}

impl Settings {
    /// The learning rate of step `step` (from 0) of `total`.
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

    /// Optimizer steps that training takes, given the number of completions in one pass.
    pub fn steps(&self, completions: usize) -> u64 {
        let batches_per_epoch = completions.div_ceil(self.batch_size);
        match self.length {
            Length::Steps(steps) => steps,
            Length::Epochs(epochs) => ((epochs * batches_per_epoch as f64).round() as u64).max(1),
        }
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
    fn knobs_without_effect_are_errors() {
        for (text, word) in [
            ("objective: dpo\ndesirable_weight: 2", "desirable_weight"),
            ("objective: sft\nbeta: 0.1", "beta"),
            ("objective: kto\nclass_balance: 1.2", "class_balance"),
            ("objective: kto\nmax_steps: 3\nnum_train_epochs: 1", "not both"),
            ("objective: dpo\nmicro_batch_size: 3", "even"),
            ("objective: kto\nmax_prompt_length: 64", "no room"),
            ("objective: kto\nbeta: -1", "beta"),
        ] {
            let error = settings(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
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
