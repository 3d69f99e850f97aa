//! HeldOutScores of held-out judgements under the policy of their fold.

use std::collections::HashMap;

use prospect_runs::{PairOutcome, SweepDir};
use serde_json::Value;

use super::{TriagePlan, experiment::FOLD};
use crate::SweepError;

/// HeldOutScores by fold and content id, in nats.
pub(super) struct HeldOutScores(HashMap<(usize, String), f64>);

impl HeldOutScores {
    /// Score of a judgement; None if its prompt is too long for the policy.
    pub(super) fn get(&self, fold: usize, content_id: &str) -> Option<f64> {
        self.0.get(&(fold, content_id.to_owned())).copied()
    }
}

/// Reads the scores of the finished runs.
pub(super) fn read(plan: &TriagePlan, sweep: &SweepDir) -> Result<HeldOutScores, SweepError> {
    let mut scores = HashMap::new();
    for run in &plan.sweep.runs {
        let fold = run.settings.get(FOLD).and_then(Value::as_str).and_then(|fold| fold.parse().ok());
        let fold: usize = fold.ok_or_else(|| SweepError::Setting(format!("run {} has no fold", run.id)))?;
        let directory = sweep.run(&run.id);
        for pair in directory.pairs()? {
            let margin = margin(&pair);
            scores.insert((fold, pair.pair_id), margin);
        }
        for thumb in directory.thumbs()? {
            // Further judgements of one completion end in `#2` and so on, and score alike.
            let id = thumb.id.split('#').next().unwrap_or_default().to_owned();
            scores.insert((fold, id), thumb.log_ratio);
        }
    }
    Ok(HeldOutScores(scores))
}

/// Margin by which a policy prefers the chosen side, by the score that its objective ranks by.
fn margin(pair: &PairOutcome) -> f64 {
    match pair.own_scores {
        Some([chosen, rejected]) => chosen - rejected,
        None => pair.chosen - pair.rejected,
    }
}
