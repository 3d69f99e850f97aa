//! The seeds of an experiment file.

use std::{borrow::Cow, fmt};

use prospect_runs::Resample;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{
        MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};

/// Random seeds, and what they vary: a list of seeds, or a map with `values` and `resample`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeedsFile {
    /// The seeds.
    pub values: Vec<u64>,
    /// Parts of training that every seed draws again, in addition to what seeds always vary.
    pub resample: Vec<Resample>,
}

impl SeedsFile {
    /// Returns true if every seed draws `part` again.
    pub fn resamples(&self, part: Resample) -> bool {
        self.resample.contains(&part)
    }

    /// Returns as many other seeds, all larger.
    pub(crate) fn fresh(&self) -> Vec<u64> {
        let first = self.values.iter().max().map_or(0, |largest| largest.saturating_add(1));
        (first..).take(self.values.len()).collect()
    }
}

/// The map form.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SeedsMap {
    /// The seeds, one run each.
    values: Vec<u64>,
    /// Parts that every seed draws again: `prompts` (the training prompts that
    /// `select.train_prompts` keeps) and `sft` (the SFT stage, which then trains once for each
    /// seed). Default: neither.
    #[serde(default)]
    #[schemars(schema_with = "resample")]
    resample: Vec<Resample>,
}

fn resample(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": { "type": "string", "enum": ["prompts", "sft"] } })
}

impl<'de> Deserialize<'de> for SeedsFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListOrMap;

        impl<'de> Visitor<'de> for ListOrMap {
            type Value = SeedsFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of seeds, or a map with `values` and `resample`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                let values = Vec::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(SeedsFile { values, resample: Vec::new() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                let SeedsMap { values, resample } = SeedsMap::deserialize(MapAccessDeserializer::new(map))?;
                Ok(SeedsFile { values, resample })
            }
        }

        deserializer.deserialize_any(ListOrMap)
    }
}

impl JsonSchema for SeedsFile {
    fn schema_name() -> Cow<'static, str> {
        "SeedsFile".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let list = generator.subschema_for::<Vec<u64>>();
        let map = generator.subschema_for::<SeedsMap>();
        json_schema!({ "anyOf": [list, map] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_list_or_a_map() {
        let read = |text: &str| serde_yaml::from_str::<SeedsFile>(text);
        let list = read("[0, 4, 2]").unwrap();
        assert_eq!((list.values.as_slice(), list.resample.len()), ([0, 4, 2].as_slice(), 0));
        assert_eq!(list.fresh(), [5, 6, 7]);
        let map = read("{values: [1], resample: [prompts, sft]}").unwrap();
        assert!(map.resamples(Resample::Prompts) && map.resamples(Resample::Sft));
        assert!(read("{values: [1], resample: [prompt]}").unwrap_err().to_string().contains("prompts"));
        assert!(read("{valus: [1]}").unwrap_err().to_string().contains("valus"));
    }
}
