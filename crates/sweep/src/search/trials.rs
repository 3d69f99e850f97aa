//! Trials: settings drawn for each series.

use std::collections::BTreeMap;

use prospect_core::draw::Draw;
use prospect_runs::series_name;
use serde_json::Value;

use super::{RUNG, SearchPlan, TRIAL, TrialId};
use crate::{
    SweepError,
    config::{Choice, DrawnFile, LoadedExperiment, SearchFile, included_combinations},
};

/// A combination of swept settings.
pub(crate) struct Combination {
    /// The trial of a search, if there is one.
    pub(crate) trial: Option<TrialId>,
    pub(crate) choices: Vec<Choice>,
}

/// Returns every combination of swept settings with each of its trials.
///
/// Without a search, returns the combinations alone.
pub(crate) fn combinations_with_trials(
    experiment: &LoadedExperiment,
) -> Result<Vec<Combination>, SweepError> {
    let combinations = included_combinations(experiment)?;
    let Some(search) = &experiment.raw.search else {
        return Ok(combinations.into_iter().map(|choices| Combination { trial: None, choices }).collect());
    };
    let located = |message: String| experiment.located_error(&message);
    check(experiment, search).map_err(located)?;
    let mut drawn: BTreeMap<String, Vec<BTreeMap<String, Value>>> = BTreeMap::new();
    let mut all = Vec::new();
    for (cell, choices) in combinations.into_iter().enumerate() {
        let series = choices.iter().find(|choice| choice.axis == experiment.raw.report.series);
        let series = series.map(|choice| series_name(&choice.value)).unwrap_or_default();
        if !drawn.contains_key(&series) {
            drawn.insert(series.clone(), draw_trials(search, &series).map_err(located)?);
        }
        for (index, settings) in drawn[&series].iter().enumerate() {
            let number = index + 1;
            let mut choices = choices.clone();
            choices.push(Choice { axis: TRIAL.to_owned(), value: number.into(), settings: BTreeMap::new() });
            choices.extend(settings.iter().map(|(key, value)| Choice::from_setting(key, value)));
            all.push(Combination { trial: Some(TrialId { cell, number }), choices });
        }
    }
    Ok(all)
}

/// Draws distinct trials for a series. Trials of different series are independent.
fn draw_trials(search: &SearchFile, series: &str) -> Result<Vec<BTreeMap<String, Value>>, String> {
    let distributions: Vec<(&String, Distribution)> = search
        .settings
        .iter()
        .chain(search.series.get(series).into_iter().flatten())
        .map(|(key, drawn)| Ok((key, Distribution::new(key, drawn)?)))
        .collect::<Result<_, String>>()?;
    let mut trials: Vec<BTreeMap<String, Value>> = Vec::new();
    let wanted = search.trials.get();
    // Small spaces repeat. After 50 draws a trial, the space is taken to have no further point.
    for attempt in 0..50 * wanted {
        let sample = |(key, distribution): &(&String, Distribution)| {
            let stream = Draw::new(search.seed, &format!("search of {series}, {key}"));
            ((*key).clone(), distribution.sample(stream.bits(&attempt.to_string())))
        };
        let trial: BTreeMap<String, Value> = distributions.iter().map(sample).collect();
        if !trials.contains(&trial) {
            trials.push(trial);
        }
        if trials.len() == wanted {
            return Ok(trials);
        }
    }
    Err(format!(
        "`search.trials` is {wanted}, but {series} has only {} distinct ones: lower it, or give more values",
        trials.len()
    ))
}

/// Distribution of a setting.
enum Distribution {
    Choice(Vec<Value>),
    Uniform(f64, f64),
    LogUniform(f64, f64),
}

impl Distribution {
    fn new(key: &str, raw: &DrawnFile) -> Result<Self, String> {
        let range = |name: &str, [low, high]: [f64; 2], lower_bound: f64| {
            if low < high && low > lower_bound && high.is_finite() {
                Ok((low, high))
            } else {
                Err(format!(
                    "`search`: `{key}` is {name} [{low}, {high}]: give two numbers, the smaller first{}",
                    if lower_bound == 0.0 { ", both above 0" } else { "" }
                ))
            }
        };
        match (&raw.choice, raw.uniform, raw.log_uniform) {
            (Some(values), None, None) if !values.is_empty() => Ok(Self::Choice(values.clone())),
            (None, Some(ends), None) => {
                range("uniform", ends, f64::NEG_INFINITY).map(|(low, high)| Self::Uniform(low, high))
            }
            (None, None, Some(ends)) => {
                range("log_uniform", ends, 0.0).map(|(low, high)| Self::LogUniform(low, high))
            }
            _ => Err(format!(
                "`search`: `{key}` needs exactly one of `choice` (not empty), `uniform` and `log_uniform`"
            )),
        }
    }

    /// Returns the value at the quantile `bits` / 2⁶⁴.
    fn sample(&self, bits: u64) -> Value {
        let quantile = bits as f64 / u64::MAX as f64;
        match self {
            Self::Choice(values) => {
                let index = (quantile * values.len() as f64) as usize;
                values[index.min(values.len() - 1)].clone()
            }
            Self::Uniform(low, high) => rounded(low + quantile * (high - low)),
            Self::LogUniform(low, high) => rounded((low.ln() + quantile * (high.ln() - low.ln())).exp()),
        }
    }
}

/// Rounds to three significant digits, so that a drawn value can be read and typed again.
fn rounded(value: f64) -> Value {
    format!("{value:.2e}").parse::<f64>().unwrap_or(value).into()
}

/// Refuses a search that clashes with the swept settings or draws nothing.
fn check(experiment: &LoadedExperiment, search: &SearchFile) -> Result<(), String> {
    let raw = &experiment.raw;
    let axes: Vec<&String> = raw.linked.keys().chain(raw.matrix.keys()).collect();
    if let Some(axis) = axes.iter().find(|axis| [TRIAL, RUNG].contains(&axis.as_str())) {
        return Err(format!("`{axis}` is reserved by `search`: rename that axis"));
    }
    let keys = search.settings.keys().chain(search.series.values().flat_map(BTreeMap::keys));
    if let Some(key) = keys.clone().find(|key| axes.contains(key)) {
        return Err(format!("`{key}` is both swept and searched: remove one"));
    }
    if keys.count() == 0 {
        return Err("`search` draws nothing: give `settings`".to_owned());
    }
    let names: Vec<String> = match raw.linked.get(&raw.report.series) {
        Some(groups) => groups.names().cloned().collect(),
        None => raw.matrix.get(&raw.report.series).into_iter().flatten().map(series_name).collect(),
    };
    if let Some(name) = search.series.keys().find(|name| !names.contains(name)) {
        return Err(format!("`search.series`: `{name}` is not a series; series: {names:?}"));
    }
    for (series, settings) in &search.series {
        if let Some(key) = settings.keys().find(|key| search.settings.contains_key(*key)) {
            return Err(format!(
                "`search`: `{key}` is drawn for all series and again for {series}: remove one"
            ));
        }
    }
    match search.halving {
        Some(halving) if halving.factor.get() < 2 => {
            Err("`search.halving.factor` must be at least 2".to_owned())
        }
        Some(halving)
            if SearchPlan::new(search).trials_in(halving.rungs.get() - 1) == 1
                && halving.rungs.get() > 1
                && SearchPlan::new(search).trials_in(halving.rungs.get() - 2) == 1 =>
        {
            Err(format!(
                "`search.halving.rungs` is {}, but only one trial is left before the last rung: lower it, or \
                 raise `search.trials`",
                halving.rungs
            ))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(text: &str) -> SearchFile {
        serde_yaml::from_str(text).unwrap()
    }

    const SPACE: &str = "{settings: {train.learning_rate: {log_uniform: [1e-6, 1e-3]}}, \
                         series: {kto: {train.beta: {choice: [0.1, 0.2]}}}, trials: 6}";

    #[test]
    fn trials_are_drawn_by_series_and_are_the_same_each_time() {
        let search = search(SPACE);
        let (dpo, kto) = (draw_trials(&search, "dpo").unwrap(), draw_trials(&search, "kto").unwrap());
        assert_eq!((dpo.len(), kto.len()), (6, 6));
        assert_eq!(kto, draw_trials(&search, "kto").unwrap());
        let rates = |trials: &[BTreeMap<String, Value>]| -> Vec<f64> {
            trials.iter().map(|trial| trial["train.learning_rate"].as_f64().unwrap()).collect()
        };
        assert_ne!(rates(&dpo), rates(&kto));
        assert!(rates(&dpo).iter().all(|rate| (1e-6..=1e-3).contains(rate)));
        assert!(rates(&dpo).iter().any(|rate| *rate < 3e-5) && rates(&dpo).iter().any(|rate| *rate > 3e-5));
        assert!(dpo.iter().all(|trial| !trial.contains_key("train.beta")));
        assert!(kto.iter().all(|trial| [0.1, 0.2].contains(&trial["train.beta"].as_f64().unwrap())));
    }

    #[test]
    fn a_space_with_too_few_trials_is_an_error() {
        let few = search("{settings: {train.beta: {choice: [0.1, 0.2]}}, trials: 3}");
        assert!(draw_trials(&few, "dpo").unwrap_err().contains("has only 2 distinct ones"));
        let two = search("{settings: {train.beta: {choice: [0.1, 0.2]}}, trials: 2}");
        assert_eq!(draw_trials(&two, "dpo").unwrap().len(), 2);
        for (drawn, word) in [
            ("{}", "needs exactly one of"),
            ("{choice: []}", "needs exactly one of"),
            ("{uniform: [1, 2], choice: [1]}", "needs exactly one of"),
            ("{uniform: [2, 1]}", "the smaller first"),
            ("{log_uniform: [0, 1]}", "both above 0"),
        ] {
            let search = search(&format!("{{settings: {{train.beta: {drawn}}}, trials: 1}}"));
            assert!(draw_trials(&search, "dpo").unwrap_err().contains(word), "{drawn}");
        }
    }
}
