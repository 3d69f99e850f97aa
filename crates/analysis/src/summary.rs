//! Summary of a sweep: estimates, differences and a verdict.

mod clustered;
mod contrasts;
mod findings;
mod finished_runs;
mod frontier;
mod identical;
mod learning_curves;
mod length_control;
mod method;
mod points;
mod quantity;
mod retention;
mod scores;
mod sweep_runs;
mod thumbs;
mod trials;
mod variations;
mod verdict;
mod win_rates;

use prospect_runs::{DataUse, Experiment, RecordKind, Summary, SweepDir};

pub use self::variations::{MeasuredVariation, measured_variations};
use self::{
    contrasts::{contrasts, withhold_unlearnt},
    findings::{findings, notes},
    frontier::frontier,
    learning_curves::learning_curves,
    points::points,
    retention::retention,
    scores::scores,
    sweep_runs::SweepRuns,
    trials::{selected_settings, trial_results},
    verdict::verdict,
    win_rates::{win_rates, withhold_at_chance},
};
use crate::AnalysisError;

/// Verdict on runs without held-out pairs or thumbs of both kinds.
const NOT_RANKED: &str = "Rewards cannot be ranked: the held-out feedback has no pairs, and its thumbs are all of one \
    kind. Hold out more of it (split.test_fraction).";

/// Reads the finished runs of a sweep, and writes and returns its summary.
pub fn summarise(sweep: &SweepDir) -> Result<Summary, AnalysisError> {
    let experiment = sweep.experiment()?;
    let runs = SweepRuns::read(sweep, &experiment)?;
    let mut contrasts = contrasts(&runs)?;
    let (mut win_rates, mut win_rate_contrasts) = win_rates(&runs)?;
    withhold_at_chance(&sweep.judges()?, &mut win_rates, &mut win_rate_contrasts);
    let (scores, score_contrasts) = scores(&runs)?;
    let points = points(&runs)?;
    withhold_unlearnt(&mut contrasts, &points);
    let has_pairs = points.iter().any(|point| point.accuracy.is_some());
    let findings = findings(sweep, &experiment, &runs)?;
    let truth = experiment.data.first().map(DataUse::truth).unwrap_or_default();
    let result = if points.is_empty() && !runs.cells.is_empty() {
        NOT_RANKED.to_owned()
    } else {
        verdict(&runs, &points, &contrasts, &findings)
    };
    let retention = retention(&runs)?;
    let recommendation = sweep.comparison()?.and_then(|comparison| comparison.recommendation);
    let recommendation = recommendation.map(|text| text + " ").unwrap_or_default();
    let sentences = [
        recommendation,
        result,
        retention::verdict(&retention),
        selected_settings(&experiment),
        stopped(sweep, &experiment),
        trained_starts(&experiment),
        averaged(&experiment),
    ];
    let summary = Summary {
        verdict: sentences.concat(),
        method: method::describe(&experiment),
        learning_curves: learning_curves(&runs, &points)?,
        points,
        contrasts,
        win_rates,
        win_rate_contrasts,
        scores,
        score_contrasts,
        frontier: frontier(&runs)?,
        retention,
        findings,
        notes: notes(sweep, &experiment)?,
        trials: trial_results(sweep, &experiment)?,
        oracle_accuracy: if has_pairs { truth.oracle_accuracy } else { truth.oracle_auc },
        start_accuracy: start_accuracy(sweep, &experiment)?,
    };
    sweep.write_summary(&summary)?;
    Ok(summary)
}

/// Sentence about runs that were stopped early; empty without any. Estimates leave them out.
fn stopped(sweep: &SweepDir, experiment: &Experiment) -> String {
    let runs = experiment.all_runs();
    match runs.iter().filter(|run| sweep.run(&run.id).is_stopped()).count() {
        0 => String::new(),
        stopped => {
            format!(" {stopped} of {} runs were stopped early and are left out of all estimates.", runs.len())
        }
    }
}

/// Sentence about models that are no base models, although the experiment is about base models;
/// empty without any.
fn trained_starts(experiment: &Experiment) -> String {
    if experiment.trained_starts.is_empty() {
        return String::new();
    }
    let starts: Vec<String> = experiment.trained_starts.iter().map(ToString::to_string).collect();
    format!(
        " Warning: the question is about base models, but runs start from {}. Instructions and preferences that a \
         model has seen before count as no SFT here, so these results do not answer the question for base models.",
        starts.join(" and ")
    )
}

/// Sentence about swept settings that estimates average over; empty without any.
fn averaged(experiment: &Experiment) -> String {
    let settings = experiment.averaged_settings();
    if settings.is_empty() {
        return String::new();
    }
    format!(
        " Warning: all figures average over {}; runs that differ in it count like seeds. To compare its values, make it \
         `report.x` or `report.series`.",
        settings.join(" and ")
    )
}

/// Accuracy of the model before training by its own log-probs, from the first evaluation at step 0.
fn start_accuracy(sweep: &SweepDir, experiment: &Experiment) -> Result<Option<f64>, AnalysisError> {
    for run in &experiment.runs {
        let metrics = sweep.run(&run.id).metrics()?;
        if let Some(first) = metrics.iter().find(|record| record.kind == RecordKind::Eval && record.step == 0)
        {
            return Ok(first.values.get("eval_logps/accuracies").copied());
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
