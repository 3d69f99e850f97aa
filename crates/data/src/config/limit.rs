//! Limits that are on unless set to null.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};

/// Setting with a default limit that null removes.
#[derive(Debug, Clone, Default)]
pub(super) enum Limit<T> {
    /// Not given: the default limit applies.
    #[default]
    Unset,
    Off,
    Value(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Limit<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Off, Self::Value))
    }
}

impl<T: JsonSchema> JsonSchema for Limit<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Option::<T>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Option::<T>::json_schema(generator)
    }
}

impl<T> Limit<T> {
    pub(super) fn is_given(&self) -> bool {
        !matches!(self, Self::Unset)
    }

    pub(super) fn or(self, default: T) -> Option<T> {
        match self {
            Self::Unset => Some(default),
            Self::Off => None,
            Self::Value(limit) => Some(limit),
        }
    }
}
