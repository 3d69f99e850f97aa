//! Combinations that an experiment leaves out.

use std::collections::BTreeMap;

use prospect_runs::series_name;
use serde_json::Value;

use crate::{ExperimentFile, documents::Choice};

/// Drops the combinations that a rule of `exclude` fits. A rule that fits none, or one that leaves nothing, is an error.
pub(crate) fn exclude(raw: &ExperimentFile, mut all: Vec<Vec<Choice>>) -> Result<Vec<Vec<Choice>>, String> {
    for (index, rule) in raw.exclude.iter().enumerate() {
        let of_rule = || format!("`exclude`, number {}", index + 1);
        let axes: Vec<&String> = raw.linked.keys().chain(raw.matrix.keys()).collect();
        if let Some(axis) = rule.keys().find(|axis| !axes.contains(axis)) {
            return Err(format!("{}: `{axis}` is no swept setting; there are: {axes:?}", of_rule()));
        }
        let before = all.len();
        if !rule.is_empty() {
            all.retain(|choices| !fits(rule, choices));
        }
        if all.len() == before {
            return Err(format!("{} fits no combination that is left: remove it or mend it", of_rule()));
        }
    }
    if all.is_empty() {
        return Err("`exclude` leaves no combination".to_owned());
    }
    Ok(all)
}

/// Whether a swept value is the one that was asked for. Numbers are the same however they are written, and a name may be
/// given as what it reads like.
pub(crate) fn same(value: &Value, wanted: &Value) -> bool {
    value == wanted
        || value.as_f64().is_some_and(|value| wanted.as_f64() == Some(value))
        || (!wanted.is_object() && series_name(value) == series_name(wanted))
}

/// Whether the value on every axis of the rule is the rule's, or among the rule's.
fn fits(rule: &BTreeMap<String, Value>, choices: &[Choice]) -> bool {
    rule.iter().all(|(axis, wanted)| {
        choices.iter().filter(|(name, ..)| name == axis).any(|(_, value, _)| match wanted {
            Value::Array(values) => same(value, wanted) || values.iter().any(|wanted| same(value, wanted)),
            wanted => same(value, wanted),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::all_combinations;

    fn names(exclude: &str) -> Result<Vec<String>, String> {
        let text = format!(
            "{{question: q, data: d, model: m, train: {{}}, seeds: [0], \
             report: {{x: data.imbalance.keep_desirable, series: method, baseline: dpo}}, \
             linked: {{method: {{dpo: , kto: , sft: }}}}, \
             matrix: {{data.imbalance.keep_desirable: [1.0, 0.5]}}, exclude: {exclude}}}"
        );
        let raw: ExperimentFile = serde_yaml::from_str(&text).unwrap();
        let kept = exclude_of(&raw)?;
        Ok(kept
            .iter()
            .map(|choices| choices.iter().map(|(_, value, _)| series_name(value)).collect())
            .collect())
    }

    fn exclude_of(raw: &ExperimentFile) -> Result<Vec<Vec<Choice>>, String> {
        super::exclude(raw, all_combinations(raw))
    }

    #[test]
    fn combinations_that_fit_a_rule_go() {
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
        assert!(names("[{methods: sft}]").unwrap_err().contains("`methods` is no swept setting"));
        assert!(names("[{method: sfft}]").unwrap_err().contains("number 1 fits no combination"));
        assert!(names("[{}]").unwrap_err().contains("fits no combination"));
        assert!(names("[{method: [dpo, kto, sft]}]").unwrap_err().contains("leaves no combination"));
    }
}
