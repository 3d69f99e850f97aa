//! What a search has found, for the summary.

use std::collections::{BTreeMap, BTreeSet};

use prospect_runs::{Experiment, PlannedRun, RunDir, SweepDir, TrialResult, series_name};
use serde_json::Value;

use super::{RUNG, TRIAL, validation_accuracy};
use crate::{SweepError, plan::describe};

type Settings = BTreeMap<String, Value>;

/// The settings of a run without the rung that it is in.
fn of_trial(run: &PlannedRun) -> Settings {
    run.settings
        .iter()
        .filter(|(key, _)| *key != RUNG)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn series(experiment: &Experiment, settings: &Settings) -> String {
    settings.get(&experiment.series.key).map(series_name).unwrap_or_default()
}

/// Every trial that has a result for each of its seeds, by series, the best of the longest runs first.
pub(crate) fn trial_results(
    sweep: &SweepDir,
    experiment: &Experiment,
) -> Result<Vec<TrialResult>, SweepError> {
    let Some(search) = &experiment.search else { return Ok(Vec::new()) };
    let won: Vec<Settings> = experiment.runs.iter().map(of_trial).collect();
    let mut results: Vec<TrialResult> = Vec::new();
    for (rung, runs) in search.rungs.iter().enumerate() {
        let mut trials: Vec<(Settings, Vec<RunDir>)> = Vec::new();
        for run in runs {
            let (settings, directory) = (of_trial(run), sweep.run(&run.id));
            match trials.iter_mut().find(|(other, _)| *other == settings) {
                Some((_, directories)) => directories.push(directory),
                None => trials.push((settings, vec![directory])),
            }
        }
        for (settings, directories) in trials {
            if directories.iter().all(RunDir::is_finished) {
                results.retain(|earlier| earlier.settings != settings);
                results.push(TrialResult {
                    series: series(experiment, &settings),
                    rung: rung + 1,
                    accuracy: validation_accuracy(&directories)?,
                    seeds: directories.len(),
                    won: won.contains(&settings),
                    settings,
                });
            }
        }
    }
    let order: Vec<String> = results.iter().map(|trial| trial.series.clone()).collect();
    let place = |series: &str| order.iter().position(|other| other == series);
    results.sort_by(|a, b| {
        let by_series = place(&a.series).cmp(&place(&b.series));
        by_series.then(b.won.cmp(&a.won)).then(b.rung.cmp(&a.rung)).then(b.accuracy.total_cmp(&a.accuracy))
    });
    Ok(results)
}

/// At which settings each series is at its best, in a sentence; nothing without a search.
pub(crate) fn found(experiment: &Experiment) -> String {
    let Some(search) = &experiment.search else { return String::new() };
    if experiment.runs.is_empty() {
        return " The search for settings is not over.".to_owned();
    }
    // What is swept is the same in all runs that are compared; what was drawn stands beside it.
    let drawn = |settings: &Settings| -> Settings {
        let axes = [&experiment.series.key, &experiment.x.key];
        let kept = |key: &&String| !axes.contains(key) && *key != TRIAL;
        settings.keys().filter(kept).map(|key| (key.clone(), settings[key].clone())).collect()
    };
    let several = experiment.runs.iter().map(|run| run.settings.get(&experiment.x.key)).collect::<Vec<_>>();
    let several = several.iter().any(|x| *x != several[0]);
    let phrase = |run: &PlannedRun| {
        let settings = of_trial(run);
        let x = settings.get(&experiment.x.key).filter(|_| several).map(series_name);
        let place = x.map(|x| format!(" at {x}")).unwrap_or_default();
        format!("{}{place} with {}", series(experiment, &settings), describe(&drawn(&settings)))
    };
    let mut told = BTreeSet::new();
    let phrases: Vec<String> =
        experiment.runs.iter().map(phrase).filter(|phrase| told.insert(phrase.clone())).collect();
    format!(
        " Each is at its own best of {} trials, chosen on the other half of the held-out prompts: {}.",
        search.trials,
        phrases.join("; ")
    )
}
