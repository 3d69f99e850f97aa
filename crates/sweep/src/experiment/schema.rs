//! What the JSON Schema of an experiment says of keys whose values depend on other files.

use prospect_train::TrainFile;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// Settings by dotted key, as in `data.noise.flip_desirable`.
pub(super) fn settings(generator: &mut SchemaGenerator) -> Schema {
    by_dotted_key(&generator.subschema_for::<serde_json::Value>())
}

/// Lists of values by dotted key.
pub(super) fn matrix(generator: &mut SchemaGenerator) -> Schema {
    let mut values = generator.subschema_for::<Vec<serde_json::Value>>();
    values.insert("minItems".to_owned(), 1.into());
    by_dotted_key(&values)
}

/// Groups of settings by name, by the name of their axis.
pub(super) fn linked(generator: &mut SchemaGenerator) -> Schema {
    let groups =
        json_schema!({ "type": "object", "additionalProperties": settings(generator), "minProperties": 1 });
    json_schema!({ "type": "object", "additionalProperties": groups })
}

fn by_dotted_key(values: &Schema) -> Schema {
    json_schema!({
        "type": "object",
        "propertyNames": { "pattern": "^(data|model|train)\\." },
        "additionalProperties": values,
    })
}

/// Training settings of which some come from elsewhere in the file.
pub(super) fn train(generator: &mut SchemaGenerator) -> Schema {
    let mut settings = TrainFile::json_schema(generator);
    settings.remove("required");
    settings
}

/// The training settings of a stage that may be left out.
pub(super) fn sft(generator: &mut SchemaGenerator) -> Schema {
    let mut settings = train(generator);
    settings.insert("type".to_owned(), serde_json::json!(["object", "null"]));
    settings
}

/// How tokens are chosen.
pub(super) fn mode(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["greedy", "nucleus"] })
}
