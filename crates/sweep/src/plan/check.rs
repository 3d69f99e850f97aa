//! What can be said of an experiment without its inputs and weights.

use prospect_runs::PublishedResults;

use crate::{
    Experiment, ExperimentFile, SweepError,
    documents::Documents,
    experiment::Sources,
    reference,
    search::{Search, trials},
};

/// Checks an experiment with every combination of its settings, without looking for inputs or weights, and says how
/// many runs it plans.
pub fn check(experiment: &Experiment, sources: &Sources<'_>) -> Result<usize, SweepError> {
    let raw = &experiment.raw;
    check_report(experiment)?;
    let trials = trials(experiment)?;
    for (_, choices) in &trials {
        Documents::new(experiment, sources, choices, 0)?.check()?;
    }
    let all = match raw.search.as_ref().map(Search::of) {
        None => trials.len(),
        Some(search) => {
            let cells = trials.len() / search.trials;
            (0..search.rungs).map(|rung| cells * search.trials_in(rung)).sum()
        }
    };
    Ok(all * raw.seeds.len())
}

/// Checks what the experiment plots and sweeps; the published numbers beside it.
pub(super) fn check_report(experiment: &Experiment) -> Result<Option<PublishedResults>, SweepError> {
    axes_and_baseline(&experiment.raw).map_err(|message| experiment.complaint(&message))
}

fn axes_and_baseline(raw: &ExperimentFile) -> Result<Option<PublishedResults>, String> {
    if raw.seeds.is_empty() {
        return Err("`seeds` is empty: give at least one".to_owned());
    }
    if let Some((axis, _)) = raw.linked.iter().find(|(_, groups)| groups.names().next().is_none()) {
        return Err(format!("`linked.{axis}` is empty: give at least one group"));
    }
    if let Some((key, _)) = raw.matrix.iter().find(|(_, values)| values.is_empty()) {
        return Err(format!("`matrix.{key}` is empty: give at least one value"));
    }
    raw.stop.map_or(Ok(()), |stop| stop.check(raw.evaluate))?;
    let axes: Vec<&String> = raw.linked.keys().chain(raw.matrix.keys()).collect();
    for (name, axis) in [("x", &raw.report.x), ("series", &raw.report.series)] {
        if !axes.contains(&axis) {
            return Err(format!(
                "`report.{name}` is `{axis}`, which is no swept setting; there are: {axes:?}"
            ));
        }
    }
    let series: Vec<String> = match raw.linked.get(&raw.report.series) {
        Some(groups) => groups.names().cloned().collect(),
        None => raw.matrix[&raw.report.series].iter().map(prospect_runs::series_name).collect(),
    };
    if !series.contains(&raw.report.baseline) {
        return Err(format!(
            "`report.baseline` is `{}`, which is no series; there are: {series:?}",
            raw.report.baseline
        ));
    }
    reference::resolve(raw, &series)
}
