//! Shuffled completions: a row's completion is replaced by one written for another prompt.
//!
//! All training rows are put in a random order. The replacement comes from the next row with
//! another prompt, whatever its label. So the text that a row gets doesn't depend on the rate.

use prospect_core::draw::Draw;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    counts::NoiseKindCounts,
    sampling::{self, Candidate, NoiseMark},
};
use crate::table::corruption::TextNoise;
use crate::{
    Split,
    table::feedback::{Feedback, FeedbackRow},
};

/// Completions replaced by those of other prompts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shuffle {
    /// Share of the desirable rows (0).
    #[serde(default)]
    pub desirable: f64,
    /// Share of the undesirable rows (0).
    #[serde(default)]
    pub undesirable: f64,
}

impl Shuffle {
    pub(super) fn apply(&self, feedback: &mut Feedback, seed: u64) -> NoiseKindCounts {
        // A single prompt has no donor of another prompt.
        let prompts = feedback.prompts(|row| row.kept && feedback.split(row) == Split::Train).len();
        let candidate = |_: &Feedback, row: &FeedbackRow| {
            (prompts > 1).then_some(Candidate { key: row.id, log_weight: 0.0 })
        };
        let rates = [self.desirable, self.undesirable];
        let draw = Draw::new(seed, "shuffle completions");
        let counts =
            sampling::mark_rows(feedback, &draw, rates, NoiseMark::Text(TextNoise::Shuffle), candidate);
        feedback.donors = donors(feedback, &Draw::new(seed, "donors"));
        counts
    }
}

/// Returns the donor of every shuffled row, sorted by row.
fn donors(feedback: &Feedback, draw: &Draw) -> Vec<(u32, u32)> {
    let mut order: Vec<(u64, u32)> = (0..feedback.rows.len() as u32)
        .filter(|index| {
            let row = &feedback.rows[*index as usize];
            row.kept && feedback.split(row) == Split::Train
        })
        .map(|index| (draw.bits(feedback.rows[index as usize].id.digits().as_ref()), index))
        .collect();
    order.sort_unstable();
    let row = |index: u32| &feedback.rows[index as usize];
    let mut donors: Vec<(u32, u32)> = Vec::new();
    for (place, (_, index)) in order.iter().enumerate() {
        if row(*index).corruption.text == TextNoise::Shuffle {
            let prompt = feedback.group(row(*index)).prompt;
            let others = order[place..].iter().chain(&order).map(|(_, other)| *other);
            let mut others = others.filter(|other| feedback.group(row(*other)).prompt != prompt);
            donors.extend(others.next().map(|donor| (*index, donor)));
        }
    }
    donors.sort_unstable();
    donors
}
