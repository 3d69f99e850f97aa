//! Results of a search for settings.

use std::collections::{BTreeMap, BTreeSet};

use prospect_runs::{
    Experiment, PlannedRun, RUNG_KEY, RunDir, SweepDir, TRIAL_KEY, TrialResult, describe_settings,
    series_name,
};
use serde_json::Value;

use crate::{AnalysisError, validation::validation_accuracy};

type SettingValues = BTreeMap<String, Value>;

/// Settings of a run without its rung, the same in all rungs of a trial.
fn trial_settings(run: &PlannedRun) -> SettingValues {
    let mut settings = run.settings.clone();
    settings.remove(RUNG_KEY);
    settings
}

fn series(experiment: &Experiment, settings: &SettingValues) -> String {
    settings.get(&experiment.series.key).map(series_name).unwrap_or_default()
}

/// Returns every trial that has a result for each of its seeds, ordered by series, best of the
/// longest runs first.
pub(super) fn trial_results(
    sweep: &SweepDir,
    experiment: &Experiment,
) -> Result<Vec<TrialResult>, AnalysisError> {
    let Some(search) = &experiment.search else { return Ok(Vec::new()) };
    let won: Vec<SettingValues> = experiment.runs.iter().map(trial_settings).collect();
    let mut results: Vec<TrialResult> = Vec::new();
    for (rung, runs) in search.rungs.iter().enumerate() {
        let mut trials: Vec<(SettingValues, Vec<RunDir>)> = Vec::new();
        for run in runs {
            let (settings, directory) = (trial_settings(run), sweep.run(&run.id));
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
    let position = |series: &str| order.iter().position(|other| other == series);
    results.sort_by(|a, b| {
        let by_series = position(&a.series).cmp(&position(&b.series));
        by_series.then(b.won.cmp(&a.won)).then(b.rung.cmp(&a.rung)).then(b.accuracy.total_cmp(&a.accuracy))
    });
    Ok(results)
}

/// Sentence that names the selected settings of each series; empty without a search.
pub(super) fn selected_settings(experiment: &Experiment) -> String {
    let Some(search) = &experiment.search else { return String::new() };
    let Some(first) = experiment.runs.first() else {
        return " The search for settings is not over.".to_owned();
    };
    // The axes name series and x; the other settings were drawn.
    let drawn = |settings: &SettingValues| -> SettingValues {
        let axes = [&experiment.series.key, &experiment.x.key];
        let is_drawn = |key: &&String| !axes.contains(key) && *key != TRIAL_KEY;
        settings.keys().filter(is_drawn).map(|key| (key.clone(), settings[key].clone())).collect()
    };
    let x_of = |run: &PlannedRun| run.settings.get(&experiment.x.key).cloned();
    let has_several_x = experiment.runs.iter().any(|run| x_of(run) != x_of(first));
    let phrase = |run: &PlannedRun| {
        let settings = trial_settings(run);
        let x = settings.get(&experiment.x.key).filter(|_| has_several_x).map(series_name);
        let at_x = x.map(|x| format!(" at {x}")).unwrap_or_default();
        format!("{}{at_x} with {}", series(experiment, &settings), describe_settings(&drawn(&settings)))
    };
    let mut seen = BTreeSet::new();
    let phrases: Vec<String> =
        experiment.runs.iter().map(phrase).filter(|phrase| seen.insert(phrase.clone())).collect();
    format!(
        " Each is at its own best of {} trials, chosen on the other half of the held-out prompts: {}.",
        search.trials,
        phrases.join("; ")
    )
}
