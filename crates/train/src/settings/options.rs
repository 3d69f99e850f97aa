//! Options of objectives: one table of options and their objectives.

use schemars::Schema;
use strum::VariantArray;

use super::{ObjectiveName, TrainFile, fail};
use crate::TrainError;

/// An option that applies to some objectives only.
struct ObjectiveOption {
    /// Key in YAML.
    key: &'static str,
    is_set: fn(&TrainFile) -> bool,
    applies_to: fn(ObjectiveName) -> bool,
}

/// Objectives on log-ratios to a reference.
pub(super) const WITH_REFERENCE: &[ObjectiveName] = &[
    ObjectiveName::Kto,
    ObjectiveName::ApoZeroUnpaired,
    ObjectiveName::Bco,
    ObjectiveName::Dpo,
    ObjectiveName::Cdpo,
    ObjectiveName::RobustDpo,
    ObjectiveName::Hinge,
    ObjectiveName::Ipo,
    ObjectiveName::ApoZero,
    ObjectiveName::ApoDown,
    ObjectiveName::ExoPair,
    ObjectiveName::NcaPair,
    ObjectiveName::SppoHard,
    ObjectiveName::Aot,
    ObjectiveName::AotUnpaired,
];

/// Returns true if the objective's reference can move: it has log-ratios of sequences or of tokens.
fn has_moving_reference(objective: ObjectiveName) -> bool {
    WITH_REFERENCE.contains(&objective) || objective == ObjectiveName::Ppo
}

fn has_beta(objective: ObjectiveName) -> bool {
    use ObjectiveName::{Orpo, Simpo, Slic};
    WITH_REFERENCE.contains(&objective) || matches!(objective, Simpo | Orpo | Slic)
}

fn has_class_weights(objective: ObjectiveName) -> bool {
    matches!(objective, ObjectiveName::Kto | ObjectiveName::ApoZeroUnpaired)
}

fn is_kto(objective: ObjectiveName) -> bool {
    objective == ObjectiveName::Kto
}

fn is_ppo(objective: ObjectiveName) -> bool {
    objective == ObjectiveName::Ppo
}

fn has_label_smoothing(objective: ObjectiveName) -> bool {
    use ObjectiveName::{Aot, AotUnpaired, Cdpo, ExoPair, RobustDpo};
    matches!(objective, Cdpo | RobustDpo | ExoPair | Aot | AotUnpaired)
}

/// All options and the objectives they apply to, in the order of error messages.
///
/// Everything else follows from this table: the error for an option without effect, the remark
/// "Objectives: …" in the JSON Schema, and the test of the table in `docs/objectives.md`.
const OPTIONS: &[ObjectiveOption] = &[
    option("beta", |file| file.beta.is_some(), has_beta),
    option("desirable_weight", |file| file.desirable_weight.is_some(), has_class_weights),
    option("undesirable_weight", |file| file.undesirable_weight.is_some(), has_class_weights),
    option("class_balance", |file| file.class_balance.is_some(), has_class_weights),
    option("z0", |file| file.z0.is_some(), is_kto),
    option("world_size", |file| file.world_size.is_some(), is_kto),
    option("kl_partners", |file| file.kl_partners.is_some(), is_kto),
    option("value_function", |file| file.value_function.is_some(), is_kto),
    option("reference_free", |file| file.reference_free.is_some(), is_kto),
    option("clip_ratio", |file| file.clip_ratio.is_some(), is_ppo),
    option("kl_coef", |file| file.kl_coef.is_some(), is_ppo),
    option("discount", |file| file.discount.is_some(), is_ppo),
    option("label_smoothing", |file| file.label_smoothing.is_some(), has_label_smoothing),
    option("simpo_gamma", |file| file.simpo_gamma.is_some(), |name| name == ObjectiveName::Simpo),
    option("lambda_coef", |file| file.lambda_coef.is_some(), |name| name == ObjectiveName::Slic),
    option("control_tokens", |file| file.control_tokens.is_some(), |name| name == ObjectiveName::Csft),
    option("humanline", |file| file.humanline.is_some(), |name| WITH_REFERENCE.contains(&name)),
    option("sync_every", |file| file.sync_every.is_some(), has_moving_reference),
    option("sync_alpha", |file| file.sync_alpha.is_some(), has_moving_reference),
];

const fn option(
    key: &'static str,
    is_set: fn(&TrainFile) -> bool,
    applies_to: fn(ObjectiveName) -> bool,
) -> ObjectiveOption {
    ObjectiveOption { key, is_set, applies_to }
}

impl ObjectiveOption {
    /// Names of the objectives, separated by commas.
    fn objective_names(&self) -> String {
        let names: Vec<String> = ObjectiveName::VARIANTS
            .iter()
            .filter(|name| (self.applies_to)(**name))
            .map(ToString::to_string)
            .collect();
        names.join(", ")
    }
}

/// Rejects the first option that is set without effect on the objective, or on any part of a sum.
pub(super) fn check_options(file: &TrainFile) -> Result<(), TrainError> {
    let applies = |option: &ObjectiveOption| file.objective.names().any(option.applies_to);
    let idle = OPTIONS.iter().find(|option| (option.is_set)(file) && !applies(option));
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Options of an objective by the table.
    fn options(objective: ObjectiveName) -> BTreeSet<&'static str> {
        OPTIONS.iter().filter(|option| (option.applies_to)(objective)).map(|option| option.key).collect()
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
