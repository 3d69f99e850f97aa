//! Estimates of held-out thumbs.

use std::collections::BTreeSet;

use prospect_runs::{Estimate, ThumbEstimates, ThumbOutcome};

use super::{clustered::Clustered, finished_runs::FinishedRun};
use crate::{
    AnalysisError,
    stats::{Observation, Scale, StatsError, estimate},
    thumbs::{
        auc_by_prompt, auc_terms, balanced_accuracy_terms, brier_skill_terms, log_loss_terms, reliability,
        scores,
    },
};

/// Returns the measures of one series at one x; None unless its thumbs have both labels.
pub(super) fn thumb_estimates(runs: &[&FinishedRun<'_>]) -> Result<Option<ThumbEstimates>, AnalysisError> {
    let Some(first) = runs.first() else { return Ok(None) };
    let measure = |terms: &dyn Fn(&FinishedRun<'_>) -> Option<Vec<f64>>| {
        let terms = Clustered::thumbs(runs, terms);
        terms.map(|terms| Ok::<_, StatsError>(terms.sample(Scale::Unbounded)?.estimate(None))).transpose()
    };
    let Some(auc) = measure(&|run| auc_terms(&scores(&run.thumbs)))? else { return Ok(None) };
    let z0 = |run: &FinishedRun<'_>| run.last_evaluation.get("eval_kl").copied().unwrap_or(0.0);
    let Some(balanced) = measure(&|run| balanced_accuracy_terms(&run.thumbs, z0(run)))? else {
        return Ok(None);
    };
    let desirable = first.thumbs.iter().filter(|thumb| thumb.desirable).count();
    let distinct = |key: fn(&ThumbOutcome) -> Option<&str>| {
        first.thumbs.iter().filter_map(key).collect::<BTreeSet<_>>().len()
    };
    let groups = distinct(|thumb| thumb.group.as_deref());
    let baseline = |name: &str| first.last_evaluation.get(&format!("eval_thumbs/{name}")).copied();
    Ok(Some(ThumbEstimates {
        desirable,
        undesirable: first.thumbs.len() - desirable,
        prompts: distinct(|thumb| Some(&thumb.prompt_id)),
        groups: (groups > 0).then_some(groups),
        auc: auc.clamped(0.0, 1.0),
        auc_within_prompt: within_prompt(runs)?,
        balanced_accuracy: balanced.clamped(0.0, 1.0),
        log_loss: measure(&|run| log_loss_terms(&run.thumbs))?.map(|loss| loss.clamped(0.0, f64::INFINITY)),
        brier_skill: measure(&|run| brier_skill_terms(&run.thumbs))?
            .map(|skill| skill.clamped(f64::NEG_INFINITY, 1.0)),
        length_auc: baseline("length_auc"),
        prompt_auc: baseline("prompt_auc"),
        reliability: reliability(runs.iter().flat_map(|run| &run.thumbs)),
    }))
}

/// Mean AUC within prompts that have both labels.
fn within_prompt(runs: &[&FinishedRun<'_>]) -> Result<Option<Estimate>, AnalysisError> {
    let observations: Vec<Vec<Observation<'_>>> = runs
        .iter()
        .map(|run| {
            let by_prompt = auc_by_prompt(&run.thumbs).into_iter();
            by_prompt.map(|(prompt, value)| Observation { pair: prompt, prompt, value }).collect()
        })
        .collect();
    if observations.iter().any(Vec::is_empty) {
        return Ok(None);
    }
    let range = Scale::Range { low: 0.0, high: 1.0 };
    Ok(Some(estimate(&observations, range)?.clamped(0.0, 1.0)))
}
