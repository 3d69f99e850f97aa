//! Presets: the settings of published training code, as defaults of the keys that are not set.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{FeedbackFormat, OptimizerName, Schedule, TrainFile, build::Z0File};
use crate::TrainError;

/// Source of default settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, strum::Display)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Preset {
    /// The runs of the KTO paper's first version: RMSprop at 5e-7, batches of 32, a warm-up of 150
    /// steps.
    PaperV1,
    /// The KTO paper's versions 3 to 5: AdamW at 5e-6 for KTO and 5e-7 on pairs, and z0 per
    /// micro-batch.
    PaperV4,
    /// The current code of the paper's authors (HALOs, branch `main`).
    Halos,
    /// The defaults of TRL's KTO and DPO trainers.
    Trl,
}

/// Values of a preset. Batches count examples: rows, or pairs.
struct PresetValues {
    optimizer: OptimizerName,
    learning_rate: f64,
    schedule: Schedule,
    warmup_steps: u64,
    warmup_ratio: Option<f64>,
    epochs: f64,
    batch: usize,
    micro_batch: usize,
    max_grad_norm: f64,
    weight_decay: f64,
    max_length: usize,
    max_prompt_length: usize,
    z0: Z0File,
}

impl Preset {
    fn values(self, objective: &str, format: FeedbackFormat) -> PresetValues {
        let supervised = matches!(format, FeedbackFormat::Desirable | FeedbackFormat::All);
        let paper = PresetValues {
            optimizer: OptimizerName::Rmsprop,
            learning_rate: 5e-7,
            schedule: Schedule::Constant,
            warmup_steps: 150,
            warmup_ratio: None,
            epochs: 1.0,
            batch: 32,
            micro_batch: 32,
            max_grad_norm: 10.0,
            weight_decay: 0.0,
            max_length: 2048,
            max_prompt_length: 1024,
            z0: Z0File::Global,
        };
        match self {
            Self::PaperV1 => paper,
            Self::PaperV4 => PresetValues {
                optimizer: OptimizerName::Adamw,
                learning_rate: if format == FeedbackFormat::Paired { 5e-7 } else { 5e-6 },
                micro_batch: 4,
                z0: Z0File::MicroBatch,
                ..paper
            },
            Self::Halos => PresetValues {
                optimizer: OptimizerName::Adamw,
                learning_rate: if supervised { 1e-6 } else { 5e-6 },
                schedule: if supervised { Schedule::Cosine } else { Schedule::Constant },
                warmup_ratio: Some(0.1),
                micro_batch: 4,
                max_grad_norm: 1.0,
                weight_decay: 0.01,
                max_length: 1250,
                max_prompt_length: 625,
                z0: Z0File::MicroBatch,
                ..paper
            },
            Self::Trl => PresetValues {
                optimizer: OptimizerName::Adamw,
                learning_rate: match objective {
                    _ if supervised => 2e-5,
                    "bco" => 5e-7,
                    _ => 1e-6,
                },
                schedule: Schedule::Linear,
                warmup_steps: 0,
                epochs: 3.0,
                batch: 8,
                micro_batch: 8,
                max_grad_norm: 1.0,
                max_length: 1024,
                max_prompt_length: 512,
                z0: Z0File::MicroBatch,
                ..paper
            },
        }
    }
}

impl TrainFile {
    /// Fills in the values of the preset, if there is one, where a key is not set.
    pub(super) fn with_preset(mut self) -> Result<Self, TrainError> {
        let Some(preset) = self.preset else { return Ok(self) };
        let objective = self.objective()?;
        let format = objective.feedback_format();
        let values = preset.values(objective.name(), format);
        let completions = if format == FeedbackFormat::Paired { 2 } else { 1 };

        let given_length = self.max_length.is_some();
        self.optimizer.get_or_insert(values.optimizer);
        self.learning_rate.get_or_insert(values.learning_rate);
        self.lr_scheduler_type.get_or_insert(values.schedule);
        if self.warmup_steps.is_none() && self.warmup_ratio.is_none() {
            match values.warmup_ratio {
                Some(ratio) => self.warmup_ratio = Some(ratio),
                None => self.warmup_steps = Some(values.warmup_steps),
            }
        }
        if self.max_steps.is_none() {
            self.num_train_epochs.get_or_insert(values.epochs);
        }
        self.batch_size.get_or_insert(values.batch * completions);
        self.micro_batch_size.get_or_insert(values.micro_batch * completions);
        self.max_grad_norm.get_or_insert(values.max_grad_norm);
        self.weight_decay.get_or_insert(values.weight_decay);
        self.max_length.get_or_insert(values.max_length);
        if !given_length {
            self.max_prompt_length.get_or_insert(values.max_prompt_length);
        }
        if objective.z0().is_some() && self.world_size.is_none() {
            self.z0.get_or_insert(values.z0);
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::{Length, OptimizerConfig, Schedule, Z0, tests::parsed};

    #[test]
    fn presets_have_the_values_of_their_sources() {
        let v1 = parsed("preset: paper-v1\nobjective: kto").unwrap();
        let rmsprop = OptimizerConfig::Rmsprop { rmsprop_alpha: 0.99, rmsprop_epsilon: 1e-8 };
        assert_eq!((v1.optimizer, v1.learning_rate, v1.warmup_steps), (rmsprop, 5e-7, 150));
        assert_eq!((v1.batch_size, v1.max_grad_norm, v1.length), (32, 10.0, Length::Epochs(1.0)));
        assert_eq!((v1.max_length, v1.max_prompt_length, v1.objective.z0()), (2048, 1024, Some(Z0::Global)));
        // A batch of 32 pairs has 64 completions.
        assert_eq!(parsed("preset: paper-v1\nobjective: dpo").unwrap().batch_size, 64);

        let v4 = |objective: &str| parsed(&format!("preset: paper-v4\nobjective: {objective}")).unwrap();
        assert_eq!((v4("kto").learning_rate, v4("dpo").learning_rate), (5e-6, 5e-7));
        assert_eq!((v4("kto").objective.z0(), v4("kto").micro_batch_size), (Some(Z0::MicroBatch), 4));
        assert!(matches!(v4("kto").optimizer, OptimizerConfig::Adamw { .. }));

        let halos = parsed("preset: halos\nobjective: sft").unwrap();
        assert_eq!((halos.learning_rate, halos.schedule), (1e-6, Schedule::Cosine));
        assert_eq!((halos.warmup_ratio, halos.warmup_steps, halos.weight_decay), (Some(0.1), 0, 0.01));

        let trl = parsed("preset: trl\nobjective: { dpo: 1.0, sft: 0.2 }").unwrap();
        assert_eq!((trl.batch_size, trl.learning_rate, trl.length), (16, 1e-6, Length::Epochs(3.0)));
    }

    #[test]
    fn explicit_keys_override_a_preset() {
        let text = "preset: paper-v1\nobjective: kto\noptimizer: adamw\nlearning_rate: 0.1\nbatch_size: 8\n\
                    max_length: 256\nmax_steps: 3\nwarmup_ratio: 0.5\nz0: micro_batch";
        let settings = parsed(text).unwrap();
        assert!(matches!(settings.optimizer, OptimizerConfig::Adamw { .. }));
        assert_eq!((settings.learning_rate, settings.batch_size, settings.micro_batch_size), (0.1, 8, 8));
        assert_eq!((settings.max_length, settings.max_prompt_length), (256, 128));
        assert_eq!((settings.length, settings.warmup_steps), (Length::Steps(3), 0));
        assert_eq!((settings.warmup_ratio, settings.objective.z0()), (Some(0.5), Some(Z0::MicroBatch)));
    }

    #[test]
    fn a_preset_resolves_to_the_same_settings_as_its_keys() {
        let json = |text: &str| serde_json::to_string(&parsed(text).unwrap()).unwrap();
        let keys = "objective: dpo\noptimizer: rmsprop\nlearning_rate: 5e-7\nwarmup_steps: 150\nbatch_size: 64\n\
                    max_grad_norm: 10\nmax_length: 2048";
        assert_eq!(json("preset: paper-v1\nobjective: dpo"), json(keys));
    }
}
