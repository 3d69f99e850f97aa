//! Settings of runs as columns, with the names that experiment files use.

use std::collections::BTreeMap;

use prospect_runs::{PlannedRun, RecordedObjective, RecordedSettings, RunConfig};
use serde_json::{Map, Value};

use super::RunRow;
use crate::table::RowColumn;

/// Returns a column for each swept setting and each training setting with a value in some run,
/// unless a column of that name exists.
///
/// The type is that of all values: integer, number or boolean, else text.
pub(super) fn setting_columns(runs: &[RunRow], others: &[RowColumn<RunRow>]) -> Vec<RowColumn<RunRow>> {
    let mut values: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for (name, value) in runs.iter().flat_map(|run| &run.settings) {
        values.entry(name.clone()).or_default().push(value);
    }
    // Swept settings come first.
    let is_swept = |name: &str| runs.iter().any(|run| run.planned.settings.contains_key(name));
    let mut names: Vec<String> = values.keys().cloned().collect();
    names.sort_by_key(|name| (!is_swept(name), name.clone()));
    names.retain(|name| others.iter().all(|other| other.name() != name));
    let column = |name: String| {
        let of_name = values.get(&name).map(Vec::as_slice).unwrap_or_default();
        let meaning = if is_swept(&name) { "Swept setting" } else { "Setting of training" };
        column(name, meaning, of_name)
    };
    names.into_iter().map(column).collect()
}

/// Makes the column of a setting with these values.
fn column(name: String, meaning: &str, values: &[&Value]) -> RowColumn<RunRow> {
    let key = name.clone();
    let value = move |run: &RunRow| run.settings.get(&key).cloned();
    if values.iter().all(|value| value.is_i64()) {
        RowColumn::optional_integer(name, meaning, move |run: &RunRow| value(run)?.as_i64())
    } else if values.iter().all(|value| value.is_number()) {
        RowColumn::optional_number(name, meaning, move |run: &RunRow| value(run)?.as_f64())
    } else if values.iter().all(|value| value.is_boolean()) {
        RowColumn::optional_boolean(name, meaning, move |run: &RunRow| value(run)?.as_bool())
    } else {
        RowColumn::optional_text(name, meaning, move |run: &RunRow| value(run).map(text))
    }
}

/// Returns a value as text: strings without quotes, all else as JSON.
fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// Returns the settings of a run that have a value, by name: swept settings, and training settings
/// with the prefix `train.`.
pub(super) fn settings(planned: &PlannedRun, config: Option<&RunConfig>) -> BTreeMap<String, Value> {
    let mut settings = BTreeMap::new();
    if let Some(config) = config {
        training(&config.settings, &mut settings);
    }
    settings.extend(planned.settings.clone());
    settings.retain(|_, value| !value.is_null());
    settings
}

/// Adds training settings, with the name of the objective and its options apart.
fn training(recorded: &RecordedSettings, settings: &mut BTreeMap<String, Value>) {
    match &recorded.objective {
        RecordedObjective::Name(name) => {
            settings.insert("train.objective".to_owned(), name.as_str().into());
        }
        RecordedObjective::WithOptions(options) => {
            for (name, options) in options {
                settings.insert("train.objective".to_owned(), name.as_str().into());
                settings.extend(options.beta.map(|beta| ("train.beta".to_owned(), beta.into())));
                flatten("train", &options.others, settings);
            }
        }
    }
    flatten("train", &recorded.others, settings);
}

/// Adds the values of nested objects, with the keys of their path joined by dots.
fn flatten(prefix: &str, object: &Map<String, Value>, settings: &mut BTreeMap<String, Value>) {
    for (key, value) in object {
        let name = format!("{prefix}.{key}");
        match value {
            Value::Object(inner) => flatten(&name, inner, settings),
            other => {
                settings.insert(name, other.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nested_settings_have_the_names_of_experiment_files() {
        let recorded = json!({
            "objective": {"kto": {"beta": 0.1, "kl_partners": 1}},
            "length": {"max_steps": 3},
            "adam_betas": [0.9, 0.999],
        });
        let mut settings = BTreeMap::new();
        training(&serde_json::from_value(recorded).unwrap(), &mut settings);
        let expected = json!({
            "train.objective": "kto", "train.beta": 0.1, "train.kl_partners": 1, "train.length.max_steps": 3,
            "train.adam_betas": [0.9, 0.999],
        });
        assert_eq!(serde_json::to_value(settings).unwrap(), expected);
    }
}
