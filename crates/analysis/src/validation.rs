//! The half of the held-out prompts on which a search ranks its trials.
//!
//! Series are compared on the other half: the winner of many trials is partly lucky on the pairs
//! that made it win.

use prospect_core::draw::Draw;
use prospect_core::sample::mean;
use prospect_runs::{PairOutcome, RunDir, ThumbOutcome};

use crate::{
    AnalysisError,
    thumbs::{auc, scores},
};

/// Returns true if a held-out prompt belongs to the half that settings are selected on.
pub fn is_validation(prompt_id: &str) -> bool {
    Draw::new(0, "prompts to choose settings on").bits(prompt_id) < u64::MAX / 2
}

/// Mean headline measure of `runs` on the validation half: accuracy, or AUC without pairs.
pub fn validation_accuracy(runs: &[RunDir]) -> Result<f64, AnalysisError> {
    let mut accuracies = Vec::with_capacity(runs.len());
    for run in runs {
        let (pairs, thumbs) = (run.pairs()?, run.thumbs()?);
        let on_pairs: Vec<f64> =
            pairs.iter().filter(|pair| is_validation(&pair.prompt_id)).map(PairOutcome::accuracy).collect();
        let on_thumbs: Vec<ThumbOutcome> =
            thumbs.iter().filter(|thumb| is_validation(&thumb.prompt_id)).cloned().collect();
        let (all, validation, accuracy) = if pairs.is_empty() {
            (thumbs.len(), on_thumbs.len(), auc(&scores(&on_thumbs)))
        } else {
            (pairs.len(), on_pairs.len(), mean(on_pairs))
        };
        let error = AnalysisError::Validation { pairs: all, validation };
        accuracies.push(accuracy.filter(|_| validation < all).ok_or(error)?);
    }
    Ok(mean(accuracies).unwrap_or(0.0))
}
