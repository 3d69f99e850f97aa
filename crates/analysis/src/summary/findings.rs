//! Diagnosis of all runs of a sweep.

use std::collections::BTreeMap;

use prospect_runs::{Experiment, Finding, Measure, SweepDir, series_name};

use super::{finished_runs::FinishedRun, quantity::Quantity, sweep_runs::SweepRuns};
use crate::{AnalysisError, HeldOutResult, diagnose, has_clamped_reference_point};

/// Returns the probable faults of all runs, unfinished ones included.
pub(super) fn findings(
    sweep: &SweepDir,
    experiment: &Experiment,
    runs: &SweepRuns<'_>,
) -> Result<Vec<Finding>, AnalysisError> {
    let mut held_out = BTreeMap::new();
    for run in runs.cells.values().flatten() {
        if let Some(result) = held_out_result(run)? {
            held_out.insert(run.planned.id.as_str(), result);
        }
    }
    let mut findings = Vec::new();
    for run in &experiment.runs {
        let metrics = sweep.run(&run.id).metrics()?;
        if experiment.is_untrained(run) {
            continue;
        }
        let diagnoses = diagnose(&metrics, held_out.get(run.id.as_str()).copied());
        findings.extend(diagnoses.into_iter().map(|diagnosis| Finding {
            run: run.id.clone(),
            sign: diagnosis.sign,
            evidence: diagnosis.evidence,
            steps: diagnosis.steps,
            advice: diagnosis.advice.to_owned(),
        }));
    }
    Ok(findings)
}

/// Accuracy of one run on held-out pairs, or its AUC without pairs.
fn held_out_result(run: &FinishedRun<'_>) -> Result<Option<HeldOutResult>, AnalysisError> {
    for (measure, quantity) in
        [(Measure::Accuracy, Quantity::ACCURACY), (Measure::Auc, Quantity::AUC_WITHOUT_PAIRS)]
    {
        if let Some(sample) = quantity.sample(&[run])? {
            return Ok(Some(HeldOutResult { measure, estimate: sample.estimate(None).clamped(0.0, 1.0) }));
        }
    }
    Ok(None)
}

/// Returns a sentence on each series whose KTO reference point is clamped at 0.
pub(super) fn notes(sweep: &SweepDir, experiment: &Experiment) -> Result<Vec<String>, AnalysisError> {
    let mut series: Vec<(String, [usize; 2])> = Vec::new();
    for run in &experiment.runs {
        let name = run.settings.get(&experiment.series.key).map(series_name).unwrap_or_default();
        let is_clamped = has_clamped_reference_point(&sweep.run(&run.id).metrics()?);
        let index = series.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            series.push((name, [0; 2]));
            series.len() - 1
        });
        let [clamped, all] = &mut series[index].1;
        *clamped += usize::from(is_clamped);
        *all += 1;
    }
    let sentence = |(name, [clamped, all]): (String, [usize; 2])| {
        (clamped > 0).then(|| {
            format!(
                "{name}: the reference point z0 is at its lower limit of 0 in most steps of {clamped} of {all} runs. This is \
                 usual: mismatched completions have become less likely than under the reference, and KTO trains on with \
                 z0 = 0."
            )
        })
    };
    Ok(series.into_iter().filter_map(sentence).collect())
}
