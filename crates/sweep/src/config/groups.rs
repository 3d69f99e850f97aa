//! Named groups of settings, in file order.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use serde_json::Value;

/// Named groups of settings, in file order: model sizes, for example, have no other.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Groups(Vec<(String, BTreeMap<String, Value>)>);

impl Groups {
    /// Iterates over names and settings.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &BTreeMap<String, Value>)> {
        self.0.iter().map(|(name, settings)| (name, settings))
    }

    /// Iterates over the names.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.0.iter().map(|(name, _)| name)
    }
}

impl<'de> Deserialize<'de> for Groups {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct GroupsVisitor;

        impl<'de> Visitor<'de> for GroupsVisitor {
            type Value = Groups;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("named groups of settings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Groups, A::Error> {
                let mut groups = Groups::default();
                while let Some((name, settings)) = map.next_entry::<String, Option<_>>()? {
                    if groups.names().any(|other| *other == name) {
                        return Err(de::Error::custom(format!("duplicate group `{name}`")));
                    }
                    groups.0.push((name, settings.unwrap_or_default()));
                }
                Ok(groups)
            }
        }

        deserializer.deserialize_map(GroupsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_keep_their_order() {
        let groups: Groups = serde_yaml::from_str("{2b: {a: 1}, 12b: {}, base: }").unwrap();
        assert_eq!(groups.names().collect::<Vec<_>>(), ["2b", "12b", "base"]);
        assert!(serde_yaml::from_str::<Groups>("[a]").is_err());
    }
}
