//! The half of the held-out prompts on which a search ranks its trials.
//!
//! Series are compared on the other half: the winner of many trials is partly lucky on the pairs
//! that made it win.

use prospect_core::draw::Draw;
use prospect_core::sample::mean;
use prospect_runs::{PairOutcome, RunDir};

use crate::AnalysisError;

/// Returns true if a held-out prompt belongs to the half that settings are selected on.
pub fn is_validation(prompt_id: &str) -> bool {
    Draw::new(0, "prompts to choose settings on").bits(prompt_id) < u64::MAX / 2
}

/// Mean accuracy of `runs` on the validation half.
pub fn validation_accuracy(runs: &[RunDir]) -> Result<f64, AnalysisError> {
    let mut accuracies = Vec::with_capacity(runs.len());
    for run in runs {
        let pairs = run.pairs()?;
        let validation: Vec<f64> =
            pairs.iter().filter(|pair| is_validation(&pair.prompt_id)).map(PairOutcome::accuracy).collect();
        if validation.len() == pairs.len() {
            return Err(AnalysisError::Validation { pairs: pairs.len(), validation: validation.len() });
        }
        accuracies
            .push(mean(validation).ok_or(AnalysisError::Validation { pairs: pairs.len(), validation: 0 })?);
    }
    Ok(mean(accuracies).unwrap_or(0.0))
}
