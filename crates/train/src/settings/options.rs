//! Options of objectives: one table of options and their objectives, and the checks of values.

use prospect_objective::{Bco, ClassWeight, Dpo, Hinge, Humanline, Ipo, Kto, Orpo, Simpo, Slic, SmoothedDpo};
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use strum::VariantArray;

use super::{ClassWeighting, Objective, ObjectiveName, TrainFile, Z0, fail, not_negative, positive};
use crate::TrainError;

/// An option that applies to some objectives only.
struct ObjectiveOption {
    /// Key in YAML.
    key: &'static str,
    is_set: fn(&TrainFile) -> bool,
    objectives: &'static [ObjectiveName],
}

/// Objectives with class weights.
const CLASS_WEIGHTED: &[ObjectiveName] = &[ObjectiveName::Kto, ObjectiveName::ApoZeroUnpaired];
/// Objectives on log-ratios to a reference.
const WITH_REFERENCE: &[ObjectiveName] = &[
    ObjectiveName::Kto,
    ObjectiveName::ApoZeroUnpaired,
    ObjectiveName::Bco,
    ObjectiveName::Dpo,
    ObjectiveName::Cdpo,
    ObjectiveName::RobustDpo,
    ObjectiveName::Hinge,
    ObjectiveName::Ipo,
];
const WITH_BETA: &[ObjectiveName] = &[
    ObjectiveName::Kto,
    ObjectiveName::ApoZeroUnpaired,
    ObjectiveName::Bco,
    ObjectiveName::Dpo,
    ObjectiveName::Cdpo,
    ObjectiveName::RobustDpo,
    ObjectiveName::Hinge,
    ObjectiveName::Ipo,
    ObjectiveName::Simpo,
    ObjectiveName::Orpo,
    ObjectiveName::Slic,
];

/// All options and the objectives they apply to, in the order of error messages.
///
/// Everything else follows from this table: the error for an option without effect, the remark
/// "Objectives: …" in the JSON Schema, and the test of the table in `docs/objectives.md`.
const OPTIONS: &[ObjectiveOption] = &[
    option("beta", |file| file.beta.is_some(), WITH_BETA),
    option("desirable_weight", |file| file.desirable_weight.is_some(), CLASS_WEIGHTED),
    option("undesirable_weight", |file| file.undesirable_weight.is_some(), CLASS_WEIGHTED),
    option("class_balance", |file| file.class_balance.is_some(), CLASS_WEIGHTED),
    option("z0", |file| file.z0.is_some(), &[ObjectiveName::Kto]),
    option("world_size", |file| file.world_size.is_some(), &[ObjectiveName::Kto]),
    option("kl_partners", |file| file.kl_partners.is_some(), &[ObjectiveName::Kto]),
    option(
        "label_smoothing",
        |file| file.label_smoothing.is_some(),
        &[ObjectiveName::Cdpo, ObjectiveName::RobustDpo],
    ),
    option("simpo_gamma", |file| file.simpo_gamma.is_some(), &[ObjectiveName::Simpo]),
    option("lambda_coef", |file| file.lambda_coef.is_some(), &[ObjectiveName::Slic]),
    option("control_tokens", |file| file.control_tokens.is_some(), &[ObjectiveName::Csft]),
    option("humanline", |file| file.humanline.is_some(), WITH_REFERENCE),
];

const fn option(
    key: &'static str,
    is_set: fn(&TrainFile) -> bool,
    objectives: &'static [ObjectiveName],
) -> ObjectiveOption {
    ObjectiveOption { key, is_set, objectives }
}

impl ObjectiveOption {
    /// Names of the objectives, separated by commas.
    fn objective_names(&self) -> String {
        let names: Vec<String> = ObjectiveName::VARIANTS
            .iter()
            .filter(|name| self.objectives.contains(name))
            .map(ToString::to_string)
            .collect();
        names.join(", ")
    }
}

/// Rejects the first option that is set without effect on the objective.
fn check_options(file: &TrainFile) -> Result<(), TrainError> {
    let idle =
        OPTIONS.iter().find(|option| (option.is_set)(file) && !option.objectives.contains(&file.objective));
    match idle {
        Some(option) => fail(format!(
            "`{}` has no effect on `objective: {}`; it belongs to {}",
            option.key,
            file.objective,
            option.objective_names()
        )),
        None => Ok(()),
    }
}

/// Adds the objectives of each option to its description in a JSON Schema.
pub(super) fn describe_options(schema: &mut Schema) {
    let Some(properties) = schema.get_mut("properties").and_then(|value| value.as_object_mut()) else {
        return;
    };
    for option in OPTIONS {
        let property = properties.get_mut(option.key).and_then(|value| value.as_object_mut());
        if let Some(serde_json::Value::String(text)) =
            property.and_then(|property| property.get_mut("description"))
        {
            text.extend([" Objectives: ", &option.objective_names(), "."]);
        }
    }
}

impl TrainFile {
    /// Builds the objective and checks its options.
    pub(super) fn objective(&self) -> Result<Objective, TrainError> {
        check_options(self)?;
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
                            "`kl_partners` must be at least 1, not 0; for z0 = 0 set `objective: apo_zero_unpaired`",
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
                        "`control_tokens` are both {:?}: the model could not tell desirable from undesirable; set two texts",
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
                "`class_balance` has an effect only with `auto`; set `desirable_weight` or `undesirable_weight` to `auto`",
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
    /// The micro-batch, as in TRL. `micro_batch_size` then changes the method.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Options of an objective by the table.
    fn options(objective: ObjectiveName) -> BTreeSet<&'static str> {
        OPTIONS
            .iter()
            .filter(|option| option.objectives.contains(&objective))
            .map(|option| option.key)
            .collect()
    }

    #[test]
    fn the_schema_lists_the_objectives_of_every_option() {
        let schema = schemars::schema_for!(TrainFile);
        for option in OPTIONS {
            let description = schema.pointer(&format!("/properties/{}/description", option.key));
            let description = description.and_then(serde_json::Value::as_str).unwrap();
            let remark = format!("Objectives: {}.", option.objective_names());
            assert!(description.ends_with(&remark), "{}: {description}", option.key);
        }
    }

    #[test]
    fn the_documentation_lists_the_options_of_every_objective() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/objectives.md");
        let text = fs_err::read_to_string(path).unwrap();
        for objective in ObjectiveName::VARIANTS {
            let start = format!("| `{objective}` |");
            let row = text.lines().find(|line| line.starts_with(&start)).unwrap();
            // The options are in the last column; its names in backticks alternate with other text.
            let column = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
            let named = column.split('`').skip(1).step_by(2);
            let named: BTreeSet<&str> =
                named.filter(|name| OPTIONS.iter().any(|option| option.key == *name)).collect();
            assert_eq!(named, options(*objective), "{objective}");
        }
    }
}
