//! Combinations that an experiment leaves out.

use std::collections::BTreeMap;

use prospect_runs::series_name;
use serde_json::Value;

use super::{
    ExperimentFile, LoadedExperiment,
    combinations::{Choice, all_combinations},
};
use crate::SweepError;

/// Key of a rule that restricts it to some seeds.
const SEED: &str = "seed";

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
        if let Some(axis) = rule.keys().find(|axis| !axes.contains(axis) && *axis != SEED) {
            return Err(format!("`exclude`, rule {number}: `{axis}` is not swept; swept settings: {axes:?}"));
        }
        if rule.contains_key(SEED) {
            check_seeds(raw, rule, &combinations)
                .map_err(|message| format!("`exclude`, rule {number}: {message}"))?;
            continue;
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

/// Checks a rule that leaves out single seeds of the combinations it matches.
fn check_seeds(
    raw: &ExperimentFile,
    rule: &BTreeMap<String, Value>,
    combinations: &[Vec<Choice>],
) -> Result<(), String> {
    if raw.search.is_some() {
        return Err("trials of a search are ranked over all seeds: remove `seed`".to_owned());
    }
    let leaves_out = |choices: &Vec<Choice>, seed: u64| leaves_out(rule, choices, seed);
    let seeds = || raw.seeds.values.iter().copied();
    if !combinations.iter().any(|choices| seeds().any(|seed| leaves_out(choices, seed))) {
        return Err("it matches no run: remove or fix it".to_owned());
    }
    match combinations.iter().find(|choices| seeds().all(|seed| leaves_out(choices, seed))) {
        Some(_) => Err("it matches all seeds of a combination: remove `seed` from it".to_owned()),
        None => Ok(()),
    }
}

/// Returns true if a rule of `exclude` leaves out this seed of a combination.
pub(crate) fn is_seed_excluded(raw: &ExperimentFile, choices: &[Choice], seed: u64) -> bool {
    raw.exclude.iter().any(|rule| leaves_out(rule, choices, seed))
}

/// Returns true if the rule names seeds, and matches this seed of a combination.
fn leaves_out(rule: &BTreeMap<String, Value>, choices: &[Choice], seed: u64) -> bool {
    let seed = Choice { axis: SEED.to_owned(), value: seed.into(), settings: BTreeMap::new() };
    rule.contains_key(SEED) && matches(rule, &[choices, &[seed]].concat())
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
    fn single_seeds_of_a_combination_are_left_out() {
        let text = "{question: q, data: d, model: m, train: {}, seeds: [0, 1, 2], \
                    report: {x: train.beta, series: method, baseline: dpo}, \
                    linked: {method: {dpo: , kto: }}, matrix: {train.beta: [0.1]}, exclude: RULES}";
        let included = |rules: &str| -> Result<Vec<String>, String> {
            let raw: ExperimentFile = serde_yaml::from_str(&text.replace("RULES", rules)).unwrap();
            let combinations = super::exclude(&raw, all_combinations(&raw))?;
            let seeds = combinations.iter().flat_map(|choices| {
                let kept = raw.seeds.values.iter().filter(|seed| !is_seed_excluded(&raw, choices, **seed));
                kept.map(|seed| format!("{}{seed}", series_name(&choices[0].value))).collect::<Vec<_>>()
            });
            Ok(seeds.collect())
        };
        assert_eq!(included("[{method: kto, seed: [1, 2]}]").unwrap(), ["dpo0", "dpo1", "dpo2", "kto0"]);
        assert_eq!(included("[{seed: 1}]").unwrap(), ["dpo0", "dpo2", "kto0", "kto2"]);
        assert!(included("[{method: kto, seed: 3}]").unwrap_err().contains("matches no run"));
        assert!(included("[{method: kto, seed: [0, 1, 2]}]").unwrap_err().contains("all seeds"));
    }

    #[test]
    fn a_rule_without_effect_is_an_error() {
        assert!(names("[{methods: sft}]").unwrap_err().contains("`methods` is not swept"));
        assert!(names("[{method: sfft}]").unwrap_err().contains("rule 1 matches no remaining combination"));
        assert!(names("[{}]").unwrap_err().contains("matches no remaining combination"));
        assert!(names("[{method: [dpo, kto, sft]}]").unwrap_err().contains("leaves no combination"));
    }
}
