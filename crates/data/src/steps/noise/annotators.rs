//! Annotators: every prompt is judged by one of several groups of people, of whom some prefer the opposite.
//!
//! The prompts are dealt to `groups` groups of equal size; round(contrary × groups) groups are contrary, and all
//! their judgements are turned round. So the noise comes in clusters: whole prompts, not single rows.

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

/// Annotators of whom some prefer the opposite.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Annotators {
    /// How many groups of annotators there are.
    #[serde(default = "ten")]
    pub groups: u32,
    /// The share of the groups that prefer the opposite.
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
        // The groups' shares of the prompts lie one behind the other in the order of the draws.
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
