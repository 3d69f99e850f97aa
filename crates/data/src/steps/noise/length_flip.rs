//! Length flips: annotators mistake longer completions for better ones.
//!
//! Only pairs with a longer rejected completion can flip, with weight (rejected ÷ chosen)^(1/T) on
//! their lengths in characters. A row without a pair is compared with the median length m of
//! training completions. A shorter desirable row flips with weight (m ÷ characters)^(1/T), a longer
//! undesirable one with (characters ÷ m)^(1/T). At a small T, the largest differences flip; at a
//! large T, all eligible rows are nearly equally likely.

use prospect_core::draw::Draw;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    counts::NoiseKindCounts,
    sampling::{self, Candidate, NoiseMark},
};
use crate::table::corruption::LabelNoise;
use crate::{
    Split,
    table::feedback::{Feedback, FeedbackRow},
};

/// Label flips that favour long completions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LengthFlip {
    /// Share of the desirable rows that are the shorter side of their pair (0).
    #[serde(default)]
    pub desirable: f64,
    /// Share of the undesirable rows that are the longer side of their pair (0).
    #[serde(default)]
    pub undesirable: f64,
    /// Temperature T (1).
    #[serde(default = "one")]
    pub temperature: f64,
}

fn one() -> f64 {
    1.0
}

impl LengthFlip {
    pub(super) fn apply(&self, feedback: &mut Feedback, seed: u64) -> NoiseKindCounts {
        let mut lengths: Vec<u32> = feedback.kept(Split::Train).map(|row| row.characters).collect();
        let middle = lengths.len() / 2;
        let median = if lengths.is_empty() { 0 } else { *lengths.select_nth_unstable(middle).1 };
        let candidate = |feedback: &Feedback, row: &FeedbackRow| {
            let (longer, shorter) = match feedback.pair(row) {
                Some(pair) => {
                    let [chosen, rejected] = feedback.sides(pair).map(|row| row.characters);
                    (rejected, chosen)
                }
                None if row.original_label => (median, row.characters),
                None => (row.characters, median),
            };
            let log_weight = (f64::from(longer) / f64::from(shorter.max(1))).ln() / self.temperature;
            (longer > shorter).then(|| Candidate { key: feedback.judgement_id(row), log_weight })
        };
        let rates = [self.desirable, self.undesirable];
        let mark = NoiseMark::Label(LabelNoise::LengthFlip);
        sampling::mark_rows(feedback, &Draw::new(seed, "length flip"), rates, mark, candidate)
    }
}
