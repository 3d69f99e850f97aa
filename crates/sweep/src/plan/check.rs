//! Checks of an experiment that need neither inputs nor weights.

use prospect_runs::{PrimaryContrast, PublishedResults, Resample};
use serde_json::Value;

use super::{primary, reference};
use crate::{
    SweepError,
    config::{ExperimentFile, LoadedExperiment, RecipeSources, RunDocuments, is_seed_excluded},
    search::{Combination, SearchPlan, combinations_with_trials},
};

/// Result of a check.
#[derive(Debug)]
pub struct CheckedExperiment {
    /// Number of planned runs.
    pub runs: usize,
    /// The different settings that presets resolve to, one line each.
    pub presets: Vec<String>,
}

/// Checks an experiment and every combination of its settings.
///
/// Needs neither inputs nor weights.
pub fn check(
    experiment: &LoadedExperiment,
    sources: &RecipeSources<'_>,
) -> Result<CheckedExperiment, SweepError> {
    let raw = &experiment.raw;
    check_report(experiment)?;
    let combinations = combinations_with_trials(experiment)?;
    let mut presets = Vec::new();
    for Combination { choices, .. } in &combinations {
        let documents = RunDocuments::new(experiment, sources, choices, 0)?;
        documents.check()?;
        let stage = documents.sft()?.map(|(settings, _)| settings);
        for settings in stage.into_iter().chain([documents.settings()?]) {
            presets.extend(settings.describe_preset().filter(|line| !presets.contains(line)));
        }
    }
    let runs_of_one_seed = match raw.search.as_ref().map(SearchPlan::new) {
        None => combinations.len(),
        Some(search) => {
            let cells = combinations.len() / search.trials;
            // The winners train again under fresh seeds.
            (0..search.rungs).map(|rung| cells * search.trials_in(rung)).sum::<usize>() + cells
        }
    };
    let excluded = combinations.iter().flat_map(|combination| {
        raw.seeds.values.iter().filter(|seed| is_seed_excluded(raw, &combination.choices, **seed))
    });
    let runs =
        runs_of_one_seed * raw.seeds.values.len() - excluded.count() + evaluated_runs(raw, &combinations);
    Ok(CheckedExperiment { runs, presets })
}

/// Number of runs that evaluate baselines.
fn evaluated_runs(raw: &ExperimentFile, combinations: &[Combination]) -> usize {
    let others = |combination: &Combination| -> Vec<Value> {
        let others = combination.choices.iter().filter(|choice| choice.axis != raw.report.series);
        others.map(|choice| choice.value.clone()).collect()
    };
    let mut distinct: Vec<Vec<Value>> = Vec::new();
    for others in combinations.iter().map(others) {
        if !distinct.contains(&others) {
            distinct.push(others);
        }
    }
    raw.baselines.len() * raw.seeds.values.len() * distinct.len()
}

/// Checks the seeds, the axes, the baseline, the primary comparison and the published numbers of an
/// experiment, and returns the latter two.
pub(super) fn check_report(
    experiment: &LoadedExperiment,
) -> Result<(Option<PrimaryContrast>, Vec<PublishedResults>), SweepError> {
    check_axes(&experiment.raw).map_err(|message| experiment.located_error(&message))
}

/// Checks the models that are evaluated without training, beside the trained `series`.
fn check_baselines(raw: &ExperimentFile, series: &[String]) -> Result<(), String> {
    if let Some(name) = raw.baselines.keys().find(|name| series.contains(name)) {
        return Err(format!("`baselines.{name}` has the name of a trained series: give it another one"));
    }
    if raw.search.is_some() && !raw.baselines.is_empty() {
        return Err("`baselines` have no trials to search: remove `search` or `baselines`".to_owned());
    }
    if raw.report.series == raw.report.x && !raw.baselines.is_empty() {
        return Err(
            "`baselines` need an x axis of their own: `report.x` and `report.series` are the same".to_owned()
        );
    }
    Ok(())
}

fn check_axes(raw: &ExperimentFile) -> Result<(Option<PrimaryContrast>, Vec<PublishedResults>), String> {
    if raw.seeds.values.is_empty() {
        return Err("`seeds` is empty: give at least one".to_owned());
    }
    if raw.seeds.resamples(Resample::Sft) && raw.sft.is_none() {
        return Err("`seeds.resample` has `sft`, but the experiment has no `sft`: remove one".to_owned());
    }
    if let Some((axis, _)) = raw.linked.iter().find(|(_, groups)| groups.names().next().is_none()) {
        return Err(format!("`linked.{axis}` is empty: give at least one group"));
    }
    if let Some((key, _)) = raw.matrix.iter().find(|(_, values)| values.is_empty()) {
        return Err(format!("`matrix.{key}` is empty: give at least one value"));
    }
    raw.stop.map_or(Ok(()), |stop| stop.check(raw.evaluate.every.is_some()))?;
    raw.evaluate.check_tests()?;
    let axes: Vec<&String> = raw.linked.keys().chain(raw.matrix.keys()).collect();
    for (name, axis) in [("x", &raw.report.x), ("series", &raw.report.series)] {
        if !axes.contains(&axis) {
            return Err(format!("`report.{name}` is `{axis}`, which is not swept; swept settings: {axes:?}"));
        }
    }
    let series: Vec<String> = match raw.linked.get(&raw.report.series) {
        Some(groups) => groups.names().cloned().collect(),
        None => raw.matrix[&raw.report.series].iter().map(prospect_runs::series_name).collect(),
    };
    check_baselines(raw, &series)?;
    let series: Vec<String> = series.into_iter().chain(raw.baselines.keys().cloned()).collect();
    if !series.contains(&raw.report.baseline) {
        return Err(format!(
            "`report.baseline` is `{}`, which is not a series; series: {series:?}",
            raw.report.baseline
        ));
    }
    if let Some(level) = raw.report.level
        && !(level > 0.0 && level < 1.0)
    {
        return Err(format!("`report.level` must be above 0 and below 1, not {level}; the default is 0.05"));
    }
    Ok((primary::resolve(raw, &series)?, reference::resolve(raw, &series)?))
}
