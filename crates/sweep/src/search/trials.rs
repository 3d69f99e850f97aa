//! The trials of a search: what is drawn for each series.

use std::collections::BTreeMap;

use prospect_core::draw::Draw;
use serde_json::Value;

use super::{RUNG, Search, TRIAL, Trial};
use prospect_runs::series_name;

use crate::{
    Experiment, SweepError,
    documents::{Choice, combinations},
    experiment::{DrawnFile, SearchFile},
};

/// A trial, if settings are searched for, and the settings of its runs.
type OfTrial = (Option<Trial>, Vec<Choice>);

/// Every combination of swept settings with every trial of it; without a search, each combination by itself.
pub(crate) fn trials(experiment: &Experiment) -> Result<Vec<OfTrial>, SweepError> {
    let combinations = combinations(experiment)?;
    let Some(search) = &experiment.raw.search else {
        return Ok(combinations.into_iter().map(|choices| (None, choices)).collect());
    };
    let blame = |message: String| experiment.complaint(&message);
    check(experiment, search).map_err(blame)?;
    let mut drawn: BTreeMap<String, Vec<BTreeMap<String, Value>>> = BTreeMap::new();
    let mut all = Vec::new();
    for (cell, choices) in combinations.into_iter().enumerate() {
        let series = choices.iter().find(|(axis, ..)| *axis == experiment.raw.report.series);
        let series = series.map(|(_, value, _)| series_name(value)).unwrap_or_default();
        if !drawn.contains_key(&series) {
            drawn.insert(series.clone(), draw(search, &series).map_err(blame)?);
        }
        for (index, settings) in drawn[&series].iter().enumerate() {
            let mut choices = choices.clone();
            choices.push((TRIAL.to_owned(), (index + 1).into(), BTreeMap::new()));
            choices.extend(
                settings
                    .iter()
                    .map(|(key, value)| (key.clone(), value.clone(), [(key.clone(), value.clone())].into())),
            );
            all.push((Some(Trial { cell, number: index + 1 }), choices));
        }
    }
    Ok(all)
}

/// Different trials of a series. Those of two series do not depend on each other.
fn draw(search: &SearchFile, series: &str) -> Result<Vec<BTreeMap<String, Value>>, String> {
    let space: Vec<(&String, Drawn)> = search
        .settings
        .iter()
        .chain(search.series.get(series).into_iter().flatten())
        .map(|(key, drawn)| Ok((key, Drawn::new(key, drawn)?)))
        .collect::<Result<_, String>>()?;
    let mut trials: Vec<BTreeMap<String, Value>> = Vec::new();
    let enough = search.trials.get();
    // Few choices repeat; a space that has not shown enough of them after so many draws has no more.
    for attempt in 0..50 * enough {
        let of = |(key, drawn): &(&String, Drawn)| {
            let stream = Draw::new(search.seed, &format!("search of {series}, {key}"));
            ((*key).clone(), drawn.at(stream.bits(&attempt.to_string())))
        };
        let trial: BTreeMap<String, Value> = space.iter().map(of).collect();
        if !trials.contains(&trial) {
            trials.push(trial);
        }
        if trials.len() == enough {
            return Ok(trials);
        }
    }
    Err(format!(
        "`search.trials` is {enough}, and for {series} there are only {} different ones: lower it, or give more values",
        trials.len()
    ))
}

/// Where a setting is drawn from.
enum Drawn {
    Choice(Vec<Value>),
    Uniform(f64, f64),
    LogUniform(f64, f64),
}

impl Drawn {
    fn new(key: &str, raw: &DrawnFile) -> Result<Self, String> {
        let range = |name: &str, [low, high]: [f64; 2], least: f64| {
            if low < high && low > least && high.is_finite() {
                Ok((low, high))
            } else {
                Err(format!(
                    "`search`: `{key}` is {name} [{low}, {high}]: give two numbers, the smaller first{}",
                    if least == 0.0 { ", both above 0" } else { "" }
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
                "`search`: `{key}` needs one of `choice` (with values), `uniform` and `log_uniform`"
            )),
        }
    }

    fn at(&self, bits: u64) -> Value {
        let part = bits as f64 / u64::MAX as f64;
        match self {
            Self::Choice(values) => {
                let index = (part * values.len() as f64) as usize;
                values[index.min(values.len() - 1)].clone()
            }
            Self::Uniform(low, high) => rounded(low + part * (high - low)),
            Self::LogUniform(low, high) => rounded((low.ln() + part * (high.ln() - low.ln())).exp()),
        }
    }
}

/// Three significant digits: what is drawn can be read and typed again.
fn rounded(value: f64) -> Value {
    format!("{value:.2e}").parse::<f64>().unwrap_or(value).into()
}

fn check(experiment: &Experiment, search: &SearchFile) -> Result<(), String> {
    let raw = &experiment.raw;
    let axes: Vec<&String> = raw.linked.keys().chain(raw.matrix.keys()).collect();
    if let Some(axis) = axes.iter().find(|axis| [TRIAL, RUNG].contains(&axis.as_str())) {
        return Err(format!("`{axis}` is what `search` calls its own: rename that axis"));
    }
    let keys = search.settings.keys().chain(search.series.values().flat_map(BTreeMap::keys));
    if let Some(key) = keys.clone().find(|key| axes.contains(key)) {
        return Err(format!("`{key}` is swept, and `search` draws it: remove one"));
    }
    if keys.count() == 0 {
        return Err("`search` draws nothing: give `settings`".to_owned());
    }
    let names: Vec<String> = match raw.linked.get(&raw.report.series) {
        Some(groups) => groups.names().cloned().collect(),
        None => raw.matrix.get(&raw.report.series).into_iter().flatten().map(series_name).collect(),
    };
    if let Some(name) = search.series.keys().find(|name| !names.contains(name)) {
        return Err(format!("`search.series`: `{name}` is no series; there are: {names:?}"));
    }
    for (series, of_series) in &search.series {
        if let Some(key) = of_series.keys().find(|key| search.settings.contains_key(*key)) {
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
            if Search::of(search).trials_in(halving.rungs.get() - 1) == 1
                && halving.rungs.get() > 1
                && Search::of(search).trials_in(halving.rungs.get() - 2) == 1 =>
        {
            Err(format!(
                "`search.halving.rungs` is {}, and one trial is left before the last: lower it, or raise `search.trials`",
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
        let (dpo, kto) = (draw(&search, "dpo").unwrap(), draw(&search, "kto").unwrap());
        assert_eq!((dpo.len(), kto.len()), (6, 6));
        assert_eq!(kto, draw(&search, "kto").unwrap());
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
    fn a_space_with_too_few_trials_is_told() {
        let few = search("{settings: {train.beta: {choice: [0.1, 0.2]}}, trials: 3}");
        assert!(draw(&few, "dpo").unwrap_err().contains("there are only 2 different ones"));
        let two = search("{settings: {train.beta: {choice: [0.1, 0.2]}}, trials: 2}");
        assert_eq!(draw(&two, "dpo").unwrap().len(), 2);
        for (drawn, word) in [
            ("{}", "needs one of"),
            ("{choice: []}", "needs one of"),
            ("{uniform: [1, 2], choice: [1]}", "needs one of"),
            ("{uniform: [2, 1]}", "the smaller first"),
            ("{log_uniform: [0, 1]}", "both above 0"),
        ] {
            let search = search(&format!("{{settings: {{train.beta: {drawn}}}, trials: 1}}"));
            assert!(draw(&search, "dpo").unwrap_err().contains(word), "{drawn}");
        }
    }
}
