//! Combinations that an experiment leaves out.

use std::collections::BTreeMap;

use prospect_runs::series_name;
use serde_json::Value;

use super::{
    ExperimentFile, LoadedExperiment,
    combinations::{Choice, all_combinations},
};
use crate::SweepError;

/// Returns every combination of the axes that no rule of `exclude` matches, the last axis changing
/// fastest.
pub(crate) fn included_combinations(experiment: &LoadedExperiment) -> Result<Vec<Vec<Choice>>, SweepError> {
    let raw = &experiment.raw;
    exclude(raw, all_combinations(raw)).map_err(|message| experiment.located_error(&message))
}

/// Drops the combinations that a rule of `exclude` matches.
///
/// A rule that matches none is an error, as are rules that together match all.
fn exclude(raw: &ExperimentFile, mut combinations: Vec<Vec<Choice>>) -> Result<Vec<Vec<Choice>>, String> {
    for (index, rule) in raw.exclude.iter().enumerate() {
        let number = index + 1;
        let axes: Vec<&String> = raw.linked.keys().chain(raw.matrix.keys()).collect();
        if let Some(axis) = rule.keys().find(|axis| !axes.contains(axis)) {
            return Err(format!("`exclude`, rule {number}: `{axis}` is not swept; swept settings: {axes:?}"));
        }
        let before = combinations.len();
        if !rule.is_empty() {
            combinations.retain(|choices| !matches(rule, choices));
        }
        if combinations.len() == before {
            return Err(format!(
                "`exclude`, rule {number} matches no remaining combination: remove or fix it"
            ));
        }
    }
    if combinations.is_empty() {
        return Err("`exclude` leaves no combination: remove a rule".to_owned());
    }
    Ok(combinations)
}

/// Returns true if a swept value equals the wanted one.
///
/// Numbers are equal however they are written (1 and 1.0), and a value equals its name on a figure.
pub(crate) fn same_value(value: &Value, wanted: &Value) -> bool {
    value == wanted
        || value.as_f64().is_some_and(|value| wanted.as_f64() == Some(value))
        || (!wanted.is_object() && series_name(value) == series_name(wanted))
}

/// Returns true if, on every axis of the rule, the value is the rule's or one of its list.
fn matches(rule: &BTreeMap<String, Value>, choices: &[Choice]) -> bool {
    rule.iter().all(|(axis, wanted)| {
        choices.iter().filter(|choice| choice.axis == *axis).any(|choice| match wanted {
            Value::Array(values) => {
                same_value(&choice.value, wanted)
                    || values.iter().any(|wanted| same_value(&choice.value, wanted))
            }
            wanted => same_value(&choice.value, wanted),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(exclude: &str) -> Result<Vec<String>, String> {
        let text = format!(
            "{{question: q, data: d, model: m, train: {{}}, seeds: [0], \
             report: {{x: data.imbalance.keep_desirable, series: method, baseline: dpo}}, \
             linked: {{method: {{dpo: , kto: , sft: }}}}, \
             matrix: {{data.imbalance.keep_desirable: [1.0, 0.5]}}, exclude: {exclude}}}"
        );
        let raw: ExperimentFile = serde_yaml::from_str(&text).unwrap();
        let included = super::exclude(&raw, all_combinations(&raw))?;
        let name = |choices: &Vec<Choice>| choices.iter().map(|choice| series_name(&choice.value)).collect();
        Ok(included.iter().map(name).collect())
    }

    #[test]
    fn combinations_that_match_a_rule_are_dropped() {
        assert_eq!(names("[]").unwrap().len(), 6);
        assert_eq!(
            names("[{method: [sft, kto], data.imbalance.keep_desirable: 1}]").unwrap(),
            ["dpo1.0", "dpo0.5", "kto0.5", "sft0.5"]
        );
        assert_eq!(
            names("[{method: sft}, {data.imbalance.keep_desirable: 0.5}]").unwrap(),
            ["dpo1.0", "kto1.0"]
        );
    }

    #[test]
    fn a_rule_without_effect_is_an_error() {
        assert!(names("[{methods: sft}]").unwrap_err().contains("`methods` is not swept"));
        assert!(names("[{method: sfft}]").unwrap_err().contains("rule 1 matches no remaining combination"));
        assert!(names("[{}]").unwrap_err().contains("matches no remaining combination"));
        assert!(names("[{method: [dpo, kto, sft]}]").unwrap_err().contains("leaves no combination"));
    }
}
