//! The options of objectives, checked.

use prospect_objective::{Bco, ClassWeight, Dpo, Hinge, Humanline, Ipo, Kto, Orpo, Simpo, Slic, SmoothedDpo};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{ClassWeighting, Objective, ObjectiveName, TrainFile, Z0, fail, not_negative, positive};
use crate::TrainError;

impl TrainFile {
    /// What is minimised, with every option of it checked.
    pub(super) fn objective(&self) -> Result<Objective, TrainError> {
        let given = [
            ("beta", self.beta.is_some()),
            ("desirable_weight", self.desirable_weight.is_some()),
            ("undesirable_weight", self.undesirable_weight.is_some()),
            ("class_balance", self.class_balance.is_some()),
            ("z0", self.z0.is_some()),
            ("world_size", self.world_size.is_some()),
            ("kl_partners", self.kl_partners.is_some()),
            ("label_smoothing", self.label_smoothing.is_some()),
            ("simpo_gamma", self.simpo_gamma.is_some()),
            ("lambda_coef", self.lambda_coef.is_some()),
            ("control_tokens", self.control_tokens.is_some()),
            ("humanline", self.humanline.is_some()),
        ];
        let complaint =
            |(name, given): &(&str, bool)| given.then(|| self.objective.complaint(name)).flatten();
        if let Some(complaint) = given.iter().find_map(complaint) {
            return fail(complaint);
        }
        let beta = |default: f64| positive("beta", self.beta.unwrap_or(default));
        let smoothed = || {
            let default = SmoothedDpo::default();
            let label_smoothing = self.label_smoothing.unwrap_or(default.label_smoothing);
            if !(0.0..0.5).contains(&label_smoothing) {
                return fail(format!(
                    "`label_smoothing` must be at least 0 and below 0.5, not {label_smoothing}"
                ));
            }
            Ok(SmoothedDpo { beta: beta(default.beta)?, label_smoothing })
        };
        Ok(match self.objective {
            ObjectiveName::Kto => Objective::Kto {
                beta: beta(Kto::default().beta)?,
                weighting: self.weighting()?,
                z0: self.z0()?,
                kl_partners: match self.kl_partners.unwrap_or(1) {
                    0 => {
                        return fail(
                            "`kl_partners` must be at least 1; `objective: apo_zero_unpaired` has z0 = 0",
                        );
                    }
                    partners => partners,
                },
            },
            ObjectiveName::ApoZeroUnpaired => {
                Objective::ApoZeroUnpaired { beta: beta(Kto::default().beta)?, weighting: self.weighting()? }
            }
            ObjectiveName::Bco => Objective::Bco(Bco { beta: beta(Bco::default().beta)? }),
            ObjectiveName::Dpo => Objective::Dpo(Dpo { beta: beta(Dpo::default().beta)? }),
            ObjectiveName::Cdpo => Objective::Cdpo(smoothed()?),
            ObjectiveName::RobustDpo => Objective::RobustDpo(smoothed()?),
            ObjectiveName::Hinge => Objective::Hinge(Hinge { beta: beta(Hinge::default().beta)? }),
            ObjectiveName::Ipo => Objective::Ipo(Ipo { beta: beta(Ipo::default().beta)? }),
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
                        "`control_tokens` are both {:?}: the model could not tell desirable from undesirable",
                        control.desirable
                    ));
                }
                Objective::Csft(control)
            }
        })
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
                "`class_balance` is the target of `auto`; set desirable_weight or undesirable_weight to auto",
            );
        }
        Ok(weighting)
    }

    fn z0(&self) -> Result<Z0, TrainError> {
        match (self.z0.unwrap_or(Z0File::Global), self.world_size) {
            (Z0File::Global, None) => Ok(Z0::Global),
            (Z0File::MicroBatch, None) => Ok(Z0::MicroBatch),
            (Z0File::DividedByWorldSize, Some(size)) if size >= 1 && size <= self.batch_size => {
                Ok(Z0::DividedByWorldSize(size))
            }
            (Z0File::DividedByWorldSize, Some(size)) => fail(format!(
                "`world_size` must be at least 1 and at most `batch_size` ({}), not {size}",
                self.batch_size
            )),
            (Z0File::DividedByWorldSize, None) => {
                fail("`z0: divided_by_world_size` needs `world_size`: 8 for the paper's runs")
            }
            (_, Some(_)) => fail("`world_size` has an effect only with `z0: divided_by_world_size`"),
        }
    }
}

/// Over which mismatched completions KTO's reference point is a mean, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Z0File {
    /// Those of the whole global batch, however it is cut: exact.
    Global,
    /// Those of the micro-batch, as in TRL: `micro_batch_size` changes the method.
    MicroBatch,
    /// Those of one device's share of the global batch, divided by `world_size`, as the paper's code does.
    DividedByWorldSize,
}

/// Humanline clamping as typed: `true` for the usual bounds, or `[low, high]`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "true, false, or two numbers [low, high]")]
pub(super) enum HumanlineFile {
    /// Whether log-ratios are clamped to the usual bounds.
    Switch(bool),
    /// The bounds.
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
