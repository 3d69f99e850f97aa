//! JSON Schema of the keys whose values depend on other files.

use prospect_runs::GenerationMode;
use prospect_train::TrainFile;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use strum::VariantArray;

use super::ReferenceFile;

/// Keys of settings.
pub(super) const SETTING: &str = r"^(data|model|train)\.";
/// Keys that runs may differ in: settings, whole recipes, and the SFT stage.
const CHOICE: &str = r"^((data|model|train|sft)\..+|data|model|sft)$";

/// Settings by dotted key, as in `data.noise.flip_desirable`.
pub(super) fn settings(generator: &mut SchemaGenerator) -> Schema {
    by_key(SETTING, &generator.subschema_for::<serde_json::Value>())
}

/// Lists of values by dotted key.
pub(super) fn matrix(generator: &mut SchemaGenerator) -> Schema {
    let mut values = generator.subschema_for::<Vec<serde_json::Value>>();
    values.insert("minItems".to_owned(), 1.into());
    by_key(CHOICE, &values)
}

/// Named groups of settings, by name of their axis.
pub(super) fn linked(generator: &mut SchemaGenerator) -> Schema {
    let mut choices = by_key(CHOICE, &generator.subschema_for::<serde_json::Value>());
    choices.insert("type".to_owned(), serde_json::json!(["object", "null"]));
    let groups = json_schema!({ "type": "object", "additionalProperties": choices, "minProperties": 1 });
    json_schema!({ "type": "object", "additionalProperties": groups })
}

/// Values, or lists of values, by axis.
pub(super) fn exclude(generator: &mut SchemaGenerator) -> Schema {
    let values = generator.subschema_for::<serde_json::Value>();
    let combination = json_schema!({ "type": "object", "additionalProperties": values, "minProperties": 1 });
    json_schema!({ "type": "array", "items": combination })
}

/// A map whose keys match `pattern`.
pub(super) fn by_key(pattern: &str, values: &Schema) -> Schema {
    json_schema!({
        "type": "object",
        "propertyNames": { "pattern": pattern },
        "additionalProperties": values,
    })
}

/// Training settings. None is required, since other parts of the file may set it.
pub(super) fn train(generator: &mut SchemaGenerator) -> Schema {
    let mut settings = TrainFile::json_schema(generator);
    settings.remove("required");
    settings
}

/// Training settings of the optional SFT stage.
pub(super) fn sft(generator: &mut SchemaGenerator) -> Schema {
    let mut settings = train(generator);
    settings.insert("type".to_owned(), serde_json::json!(["object", "null"]));
    settings
}

/// Quantities that series are compared in.
pub(super) fn measure(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["accuracy", "auc", "utility"] })
}

/// One set of published numbers, or several.
pub(super) fn references(generator: &mut SchemaGenerator) -> Schema {
    let one = generator.subschema_for::<ReferenceFile>();
    let several = generator.subschema_for::<Vec<ReferenceFile>>();
    json_schema!({ "anyOf": [one, several, { "type": "null" }] })
}

/// Sampling modes of generation.
pub(super) fn mode(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": GenerationMode::VARIANTS })
}
