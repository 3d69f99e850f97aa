//! Objectives from their options, and the checks of values.

use std::collections::BTreeMap;

use prospect_objective::{
    Bco, ClassWeight, Dpo, Exo, Hinge, Humanline, Ipo, Kto, Orpo, Ppo, Simpo, Slic, SmoothedDpo,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    ClassWeighting, FeedbackFormat, Objective, ObjectiveChoice, ObjectiveName, TrainFile, WeightedObjective,
    Z0, fail, not_negative,
    options::{WITH_REFERENCE, check_options},
    positive,
};
use crate::TrainError;

impl TrainFile {
    /// Builds the objective and checks its options.
    pub(super) fn objective(&self) -> Result<Objective, TrainError> {
        check_options(self)?;
        match &self.objective {
            ObjectiveChoice::One(name) => self.objective_named(*name),
            ObjectiveChoice::Sum(weights) => self.sum(weights),
        }
    }

    fn objective_named(&self, name: ObjectiveName) -> Result<Objective, TrainError> {
        let beta = |default: f64| positive("beta", self.beta.unwrap_or(default));
        let dpo = || Ok::<_, TrainError>(Dpo { beta: beta(Dpo::default().beta)? });
        let smoothed = |default: f64| {
            let label_smoothing = self.smoothing(default)?;
            Ok::<_, TrainError>(SmoothedDpo { beta: beta(Dpo::default().beta)?, label_smoothing })
        };
        let with_flips = SmoothedDpo::default().label_smoothing;
        Ok(match name {
            ObjectiveName::Kto => self.kto(beta(Kto::default().beta)?)?,
            ObjectiveName::ApoZeroUnpaired => {
                Objective::ApoZeroUnpaired { beta: beta(Kto::default().beta)?, weighting: self.weighting()? }
            }
            ObjectiveName::Bco => Objective::Bco(Bco { beta: beta(Bco::default().beta)? }),
            ObjectiveName::Ppo => Objective::Ppo(self.ppo()?),
            ObjectiveName::Dpo => Objective::Dpo(dpo()?),
            ObjectiveName::Cdpo => Objective::Cdpo(smoothed(with_flips)?),
            ObjectiveName::RobustDpo => Objective::RobustDpo(smoothed(with_flips)?),
            ObjectiveName::Hinge => Objective::Hinge(Hinge { beta: beta(Hinge::default().beta)? }),
            ObjectiveName::Ipo => Objective::Ipo(Ipo { beta: beta(Ipo::default().beta)? }),
            ObjectiveName::ApoZero => Objective::ApoZero(dpo()?),
            ObjectiveName::ApoDown => Objective::ApoDown(dpo()?),
            ObjectiveName::ExoPair => {
                let default = Exo::default();
                let label_smoothing = positive("label_smoothing", self.smoothing(default.label_smoothing)?)?;
                Objective::ExoPair(Exo { beta: beta(default.beta)?, label_smoothing })
            }
            ObjectiveName::NcaPair => Objective::NcaPair(dpo()?),
            ObjectiveName::SppoHard => Objective::SppoHard(dpo()?),
            ObjectiveName::Aot => Objective::Aot(smoothed(0.0)?),
            ObjectiveName::AotUnpaired => Objective::AotUnpaired(smoothed(0.0)?),
            ObjectiveName::Simpo => {
                let default = Simpo::default();
                let simpo_gamma = self.simpo_gamma.unwrap_or(default.simpo_gamma);
                Objective::Simpo(Simpo {
                    beta: beta(default.beta)?,
                    simpo_gamma: not_negative("simpo_gamma", simpo_gamma)?,
                })
            }
            ObjectiveName::Orpo => Objective::Orpo(Orpo { beta: beta(Orpo::default().beta)? }),
            ObjectiveName::Slic => {
                let default = Slic::default();
                let lambda_coef = self.lambda_coef.unwrap_or(default.lambda_coef);
                Objective::Slic(Slic {
                    beta: beta(default.beta)?,
                    lambda_coef: not_negative("lambda_coef", lambda_coef)?,
                })
            }
            ObjectiveName::Sft => Objective::Sft,
            ObjectiveName::Csft => {
                let control = self.control_tokens.clone().unwrap_or_default();
                if control.desirable == control.undesirable {
                    return fail(format!(
                        "`control_tokens` are both {:?}: the model could not tell desirable from undesirable; set two texts",
                        control.desirable
                    ));
                }
                Objective::Csft(control)
            }
        })
    }

    fn kto(&self, beta: f64) -> Result<Objective, TrainError> {
        let (z0, reference_free) = (self.z0()?, self.reference_free.unwrap_or(false));
        if reference_free && self.clamps() {
            return fail(
                "`humanline` clamps log-ratios to a reference: it excludes `reference_free`; set one of them",
            );
        }
        if reference_free && matches!(z0, Z0::DividedByWorldSize(_)) {
            return fail(
                "`z0: divided_by_world_size` reproduces runs with a reference: it excludes `reference_free`; set one of them",
            );
        }
        let kl_partners = match self.kl_partners.unwrap_or(1) {
            0 => {
                return fail(
                    "`kl_partners` must be at least 1, not 0; for z0 = 0 set `objective: apo_zero_unpaired`",
                );
            }
            partners => partners,
        };
        let value_function = self.value_function.unwrap_or_default();
        let weighting = self.weighting()?;
        Ok(Objective::Kto { beta, weighting, z0, kl_partners, value_function, reference_free })
    }

    /// Returns true if humanline clamping is on.
    fn clamps(&self) -> bool {
        self.humanline.is_some_and(|humanline| humanline != HumanlineFile::Switch(false))
    }

    fn ppo(&self) -> Result<Ppo, TrainError> {
        let default = Ppo::default();
        let clip_ratio = self.clip_ratio.unwrap_or(default.clip_ratio);
        let [low, high] = clip_ratio;
        if !((0.0..1.0).contains(&low) && high > 1.0) {
            return fail(format!(
                "`clip_ratio` must be [low, high] with low below 1 and high above, not [{low}, {high}]"
            ));
        }
        let discount = self.discount.unwrap_or(default.discount);
        if !(discount > 0.0 && discount <= 1.0) {
            return fail(format!("`discount` must be above 0 and at most 1, not {discount}"));
        }
        Ok(Ppo {
            clip_ratio,
            kl_coef: not_negative("kl_coef", self.kl_coef.unwrap_or(default.kl_coef))?,
            discount,
        })
    }

    fn smoothing(&self, default: f64) -> Result<f64, TrainError> {
        let label_smoothing = self.label_smoothing.unwrap_or(default);
        if !(0.0..0.5).contains(&label_smoothing) {
            return fail(format!(
                "`label_smoothing` must be at least 0 and below 0.5, not {label_smoothing}"
            ));
        }
        Ok(label_smoothing)
    }

    /// Builds a weighted sum. Its parts see the same sequences, so they need the same feedback.
    fn sum(&self, weights: &BTreeMap<ObjectiveName, f64>) -> Result<Objective, TrainError> {
        if weights.len() < 2 {
            return fail("`objective` as a sum needs two parts, as in `objective: { dpo: 1.0, sft: 0.2 }`");
        }
        let mut parts = Vec::with_capacity(weights.len());
        for (name, weight) in weights {
            if matches!(name, ObjectiveName::Csft | ObjectiveName::Ppo) {
                return fail(format!(
                    "`objective`: {name} cannot be part of a sum, since it needs {}",
                    if *name == ObjectiveName::Csft { "other prompts" } else { "the log-probs of tokens" }
                ));
            }
            if self.clamps() && !WITH_REFERENCE.contains(name) {
                return fail(format!(
                    "`humanline` clamps the tokens of all parts of a sum, and {name} has no log-ratios; remove one of them"
                ));
            }
            let objective = self.objective_named(*name)?;
            parts.push(WeightedObjective {
                weight: positive(&format!("objective.{name}"), *weight)?,
                objective,
            });
        }
        let formats = parts.iter().map(|part| part.objective.feedback_format());
        let mut formats = formats.filter(|format| *format != FeedbackFormat::Desirable);
        let first = formats.next();
        if formats.any(|format| Some(format) != first) {
            let names: Vec<String> = weights.keys().map(ToString::to_string).collect();
            return fail(format!(
                "`objective`: {} train on different feedback, pairs and rows; sum objectives of one of them",
                names.join(", ")
            ));
        }
        let beta = parts.iter().find_map(|part| part.objective.own_beta());
        Ok(Objective::Sum { beta, parts })
    }

    fn weighting(&self) -> Result<ClassWeighting, TrainError> {
        let one = ClassWeight::Fixed(1.0);
        let weighting = ClassWeighting {
            desirable_weight: self.desirable_weight.unwrap_or(one),
            undesirable_weight: self.undesirable_weight.unwrap_or(one),
            class_balance: positive("class_balance", self.class_balance.unwrap_or(1.0))?,
        };
        let weights = [
            ("desirable_weight", weighting.desirable_weight),
            ("undesirable_weight", weighting.undesirable_weight),
        ];
        for (name, weight) in weights {
            if let ClassWeight::Fixed(weight) = weight {
                not_negative(name, weight)?;
            }
        }
        if self.class_balance.is_some()
            && !weights.iter().any(|(_, weight)| matches!(weight, ClassWeight::Auto(_)))
        {
            return fail(
                "`class_balance` has an effect only with `auto`; set `desirable_weight` or `undesirable_weight` to `auto`",
            );
        }
        Ok(weighting)
    }

    fn z0(&self) -> Result<Z0, TrainError> {
        match (self.z0.unwrap_or(Z0File::Global), self.world_size) {
            (Z0File::Global, None) => Ok(Z0::Global),
            (Z0File::MicroBatch, None) => Ok(Z0::MicroBatch),
            (Z0File::DividedByWorldSize, Some(size)) => match self.batch_size {
                Some(batch) if size < 1 || size > batch => fail(format!(
                    "`world_size` must be at least 1 and at most `batch_size` ({batch}), not {size}"
                )),
                _ => Ok(Z0::DividedByWorldSize(size)),
            },
            (Z0File::DividedByWorldSize, None) => {
                fail("`z0: divided_by_world_size` needs `world_size`; set 8 for the paper's runs")
            }
            (_, Some(_)) => fail("`world_size` has an effect only with `z0: divided_by_world_size`"),
        }
    }
}

/// Scope of KTO's reference point z0: the mismatched completions that it averages over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Z0File {
    /// The global batch. Exact, and independent of `micro_batch_size`.
    Global,
    /// The micro-batch, with its completions shifted by one, as in the paper and in TRL.
    /// `micro_batch_size` then changes the method.
    MicroBatch,
    /// One device's share of the global batch, divided by `world_size`. Reproduces runs of the
    /// paper's code.
    DividedByWorldSize,
}

/// Humanline clamping: `true` for the default bounds, or `[low, high]`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "true, false, or two numbers [low, high]")]
pub(super) enum HumanlineFile {
    /// `true` clamps log-ratios to the default bounds, [-1, 1.5].
    Switch(bool),
    /// Bounds `[low, high]`, in nats: low below 0, high above 0.
    Bounds([f64; 2]),
}

impl HumanlineFile {
    pub(super) fn resolve(self) -> Result<Option<Humanline>, TrainError> {
        match self {
            Self::Switch(on) => Ok(on.then(Humanline::default)),
            Self::Bounds([low, high]) if low < 0.0 && 0.0 < high => Ok(Some(Humanline { low, high })),
            Self::Bounds([low, high]) => fail(format!(
                "`humanline` must be [low, high] with low below 0 and high above, not [{low}, {high}]"
            )),
        }
    }
}
