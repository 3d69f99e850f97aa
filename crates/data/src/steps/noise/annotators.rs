//! Annotator noise: each prompt is judged by one of several groups of annotators; contrary groups
//! prefer the opposite.
//!
//! The prompts are divided among `groups` groups of equal size. round(contrary × groups) of them
//! are contrary: all their judgements are inverted. The noise is therefore clustered by prompt
//! rather than spread over single rows.

use prospect_core::draw::{Draw, exact_count};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    counts::{ChangeCounts, NoiseKindCounts},
    sampling::NoiseMark,
};
use crate::table::corruption::LabelNoise;
use crate::{
    Split,
    table::feedback::{Feedback, lowest_ids},
};

/// Annotator groups, including contrary ones that prefer the opposite.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Annotators {
    /// Number of annotator groups.
    #[serde(default = "ten")]
    pub groups: u32,
    /// Share of the groups that prefer the opposite.
    pub contrary: f64,
}

fn ten() -> u32 {
    10
}

impl Annotators {
    pub(super) fn apply(&self, feedback: &mut Feedback, seed: u64) -> NoiseKindCounts {
        let mark = NoiseMark::Label(LabelNoise::Annotator);
        let prompts =
            feedback.prompts(|row| row.kept && mark.accepts(row) && feedback.split(row) == Split::Train);
        let contrary = exact_count(self.contrary, self.groups as usize);
        // The groups hold consecutive slices of the prompts in draw order, so the contrary ones
        // come first.
        let count = contrary * prompts.len() / self.groups as usize;
        let contrary = lowest_ids(&Draw::new(seed, "annotators"), &prompts, count);
        let drawn = ChangeCounts { eligible: prompts.len() as u64, changed: contrary.len() as u64 };
        let mut counts = NoiseKindCounts { drawn: Some(drawn), ..NoiseKindCounts::default() };
        for label in [true, false] {
            let class = if label { &mut counts.desirable } else { &mut counts.undesirable };
            for index in feedback.training_class(label) {
                let row = feedback.rows[index as usize];
                if mark.accepts(&row) {
                    class.eligible += 1;
                    if contrary.contains(&feedback.group(&row).prompt) {
                        class.changed += 1;
                        mark.apply_to(&mut feedback.rows[index as usize]);
                    }
                }
            }
        }
        counts
    }
}
