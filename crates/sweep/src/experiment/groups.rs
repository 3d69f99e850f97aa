//! Named groups of settings, in the order in which they are written.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use serde_json::Value;

/// Named groups of settings. The order is that of the file: sizes of models have no other.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Groups(Vec<(String, BTreeMap<String, Value>)>);

impl Groups {
    /// Names and settings.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &BTreeMap<String, Value>)> {
        self.0.iter().map(|(name, settings)| (name, settings))
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.0.iter().map(|(name, _)| name)
    }
}

impl<'de> Deserialize<'de> for Groups {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Groups;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("named groups of settings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Groups, A::Error> {
                let mut groups = Groups::default();
                while let Some((name, settings)) = map.next_entry::<String, Option<_>>()? {
                    if groups.names().any(|other| *other == name) {
                        return Err(de::Error::custom(format!("the group `{name}` stands twice")));
                    }
                    groups.0.push((name, settings.unwrap_or_default()));
                }
                Ok(groups)
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_stay_in_their_order() {
        let groups: Groups = serde_yaml::from_str("{2b: {a: 1}, 12b: {}, base: }").unwrap();
        assert_eq!(groups.names().collect::<Vec<_>>(), ["2b", "12b", "base"]);
        assert!(serde_yaml::from_str::<Groups>("[a]").is_err());
    }
}
