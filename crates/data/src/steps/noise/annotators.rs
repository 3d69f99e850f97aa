//! Annotators: every prompt is judged by one of several groups of people, of whom some prefer the opposite.
//!
//! The prompts are dealt to `groups` groups of equal size; round(contrary × groups) groups are contrary, and all
//! their judgements are turned round. So the noise comes in clusters: whole prompts, not single rows.

use prospect_core::draw::{Draw, exact_count};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Judgement, KindCounts,
    mark::{Changed, Mark},
};
use crate::{
    Split,
    feedback::{Feedback, lowest_ids},
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
    pub(super) fn apply(&self, feedback: &mut Feedback, seed: u64) -> KindCounts {
        let mark = Mark::Judgement(Judgement::Annotator);
        let prompts =
            feedback.prompts(|row| row.kept && mark.fits(row) && feedback.split(row) == Split::Train);
        let contrary = exact_count(self.contrary, self.groups as usize);
        // The groups' shares of the prompts lie one behind the other in the order of the draws.
        let count = contrary * prompts.len() / self.groups as usize;
        let contrary = lowest_ids(&Draw::new(seed, "annotators"), &prompts, count);
        let drawn = Changed { eligible: prompts.len() as u64, changed: contrary.len() as u64 };
        let mut counts = KindCounts { drawn: Some(drawn), ..KindCounts::default() };
        for label in [true, false] {
            let class = if label { &mut counts.desirable } else { &mut counts.undesirable };
            for index in feedback.class(label) {
                let row = feedback.rows[index as usize];
                if mark.fits(&row) {
                    class.eligible += 1;
                    if contrary.contains(&feedback.group(&row).prompt) {
                        class.changed += 1;
                        mark.put(&mut feedback.rows[index as usize]);
                    }
                }
            }
        }
        counts
    }
}
