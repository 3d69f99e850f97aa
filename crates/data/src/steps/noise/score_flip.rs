//! Score flips: annotators confuse completions with similar scores.
//!
//! A Bradley–Terry annotator with temperature T prefers the worse completion of a pair with
//! probability p = sigmoid(−Δ/T), where Δ is the score of chosen minus that of rejected. Without
//! rates, each pair flips with its own p. With rates, an exact number of rows flips, sampled with
//! the odds p/(1−p) = exp(−Δ/T) as weights.

use prospect_core::draw::Draw;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    counts::{ChangeCounts, NoiseKindCounts},
    sampling::{self, Candidate, NoiseMark},
};
use crate::table::corruption::LabelNoise;
use crate::table::feedback::{Feedback, FeedbackPair, FeedbackRow};

/// Label flips that are more likely the closer the scores of a pair are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreFlip {
    /// Temperature T, in units of the score.
    pub temperature: f64,
    /// Share of the desirable rows with scored pairs; if both shares are missing, each pair flips
    /// with its own probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desirable: Option<f64>,
    /// Share of the undesirable rows with scored pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undesirable: Option<f64>,
}

impl ScoreFlip {
    pub(super) fn apply(&self, feedback: &mut Feedback, seed: u64) -> NoiseKindCounts {
        let draw = Draw::new(seed, "score flip");
        let log_odds =
            |feedback: &Feedback, pair: &FeedbackPair| Some(-score_gap(feedback, pair)? / self.temperature);
        if let (None, None) = (self.desirable, self.undesirable) {
            let mut eligible = sampling::free_pairs(feedback);
            eligible.retain(|index| log_odds(feedback, &feedback.pairs[*index as usize]).is_some());
            let mut chosen = eligible.clone();
            chosen.retain(|index| {
                let pair = &feedback.pairs[*index as usize];
                let odds = log_odds(feedback, pair).map_or(0.0, f64::exp);
                // Equivalent to u < odds / (1 + odds), but valid for infinite odds too.
                let u = sampling::uniform(draw.bits(pair.id.digits().as_ref()));
                u < odds * (1.0 - u)
            });
            return sampling::mark_pairs(feedback, &eligible, &chosen, LabelNoise::ScoreFlip);
        }
        let candidate = |feedback: &Feedback, row: &FeedbackRow| {
            let pair = feedback.pair(row)?;
            Some(Candidate { key: pair.id, log_weight: log_odds(feedback, pair)? })
        };
        let rates = [self.desirable, self.undesirable].map(Option::unwrap_or_default);
        let counts =
            sampling::mark_rows(feedback, &draw, rates, NoiseMark::Label(LabelNoise::ScoreFlip), candidate);
        NoiseKindCounts { drawn: None::<ChangeCounts>, ..counts }
    }
}

/// Returns the score of the chosen minus that of the rejected completion, if both have one.
pub(super) fn score_gap(feedback: &Feedback, pair: &FeedbackPair) -> Option<f64> {
    let [chosen, rejected] = feedback.sides(pair).map(FeedbackRow::score);
    Some(chosen? - rejected?)
}
