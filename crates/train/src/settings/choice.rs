//! The key `objective`: a name, or a weighted sum.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::StrDeserializer},
};

use super::ObjectiveName;

/// Objective to minimise: one, or a weighted sum of several on the same feedback.
#[derive(Debug, Clone, PartialEq)]
pub enum ObjectiveChoice {
    /// One objective, as in `objective: kto`.
    One(ObjectiveName),
    /// Weights by objective, as in `objective: { dpo: 1.0, sft: 0.2 }`.
    Sum(BTreeMap<ObjectiveName, f64>),
}

impl ObjectiveChoice {
    /// Names of the objective, or of the parts of the sum.
    pub(super) fn names(&self) -> impl Iterator<Item = ObjectiveName> {
        let (one, sum) = match self {
            Self::One(name) => (Some(*name), None),
            Self::Sum(weights) => (None, Some(weights.keys().copied())),
        };
        one.into_iter().chain(sum.into_iter().flatten())
    }
}

impl fmt::Display for ObjectiveChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(name) => write!(f, "{name}"),
            Self::Sum(weights) => {
                let parts: Vec<_> =
                    weights.iter().map(|(name, weight)| format!("{name}: {weight}")).collect();
                write!(f, "{{ {} }}", parts.join(", "))
            }
        }
    }
}

impl<'de> Deserialize<'de> for ObjectiveChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ChoiceVisitor)
    }
}

/// Reads either form. An untagged enum would hide the list of names from the error.
struct ChoiceVisitor;

impl<'de> Visitor<'de> for ChoiceVisitor {
    type Value = ObjectiveChoice;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an objective, or weights by objective as in { dpo: 1.0, sft: 0.2 }")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<ObjectiveChoice, E> {
        ObjectiveName::deserialize(StrDeserializer::new(name)).map(ObjectiveChoice::One)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ObjectiveChoice, A::Error> {
        let mut weights = BTreeMap::new();
        while let Some((name, weight)) = map.next_entry()? {
            weights.insert(name, weight);
        }
        Ok(ObjectiveChoice::Sum(weights))
    }
}

impl JsonSchema for ObjectiveChoice {
    fn schema_name() -> Cow<'static, str> {
        "ObjectiveChoice".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let name = generator.subschema_for::<ObjectiveName>();
        json_schema!({
            "anyOf": [
                name,
                {
                    "description": "Weights by objective. All parts train on the same feedback.",
                    "type": "object",
                    "propertyNames": name,
                    "additionalProperties": { "type": "number", "exclusiveMinimum": 0 },
                    "minProperties": 2,
                },
            ],
        })
    }
}
