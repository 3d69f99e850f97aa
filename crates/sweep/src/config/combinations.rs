//! Combinations of swept settings.

use std::collections::BTreeMap;

use serde_json::Value;

use super::ExperimentFile;

/// The choice on one axis: a key of `matrix` with one value, or an axis of `linked` with one group.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Choice {
    /// The axis.
    pub(crate) axis: String,
    /// The value, or the name of the group.
    pub(crate) value: Value,
    /// The settings it stands for, by dotted key.
    pub(crate) settings: BTreeMap<String, Value>,
}

impl Choice {
    /// Returns a choice that sets one key to one value.
    pub(crate) fn from_setting(key: &str, value: &Value) -> Self {
        Self {
            axis: key.to_owned(),
            value: value.clone(),
            settings: [(key.to_owned(), value.clone())].into(),
        }
    }
}

/// Returns the Cartesian product of all axes, the last axis changing fastest.
pub(crate) fn all_combinations(raw: &ExperimentFile) -> Vec<Vec<Choice>> {
    let linked = raw.linked.iter().map(|(axis, groups)| -> Vec<Choice> {
        let choice = |(name, settings): (&String, &BTreeMap<String, Value>)| Choice {
            axis: axis.clone(),
            value: name.clone().into(),
            settings: settings.clone(),
        };
        groups.iter().map(choice).collect()
    });
    let matrix = raw.matrix.iter().map(|(key, values)| -> Vec<Choice> {
        values.iter().map(|value| Choice::from_setting(key, value)).collect()
    });
    linked.chain(matrix).fold(vec![Vec::new()], |combinations, axis| {
        let extended = combinations.iter().flat_map(|chosen| {
            axis.iter().map(move |choice| [&chosen[..], std::slice::from_ref(choice)].concat())
        });
        extended.collect()
    })
}
