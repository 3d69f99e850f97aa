//! Dropped words: completions with randomly missing words.
//!
//! Words are separated by white space. Of the n words of the last message, round(drop × n) are
//! dropped, at least one but not all: those with the lowest draws. The white space before a dropped
//! word goes with it.

use prospect_core::draw::{Draw, exact_count};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    counts::NoiseKindCounts,
    sampling::{self, Candidate, NoiseMark},
};
use crate::table::corruption::TextNoise;
use crate::table::{
    feedback::{Feedback, FeedbackRow},
    ids::Id,
};

/// Purpose of the draws that choose words.
pub(super) const PURPOSE: &str = "dropped words";

/// Completions with dropped words.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DropWords {
    /// Share of the desirable rows (0).
    #[serde(default)]
    pub desirable: f64,
    /// Share of the undesirable rows (0).
    #[serde(default)]
    pub undesirable: f64,
    /// Share of the words to drop (0.2).
    #[serde(default = "some")]
    pub drop: f64,
}

fn some() -> f64 {
    0.2
}

impl DropWords {
    pub(super) fn apply(&self, feedback: &mut Feedback, seed: u64) -> NoiseKindCounts {
        let candidate = |_: &Feedback, row: &FeedbackRow| {
            row.several_words.then_some(Candidate { key: row.id, log_weight: 0.0 })
        };
        let rates = [self.desirable, self.undesirable];
        sampling::mark_rows(
            feedback,
            &Draw::new(seed, "drop words"),
            rates,
            NoiseMark::Text(TextNoise::DropWords),
            candidate,
        )
    }

    /// Returns the text with words dropped; `row` is the id of its row.
    pub(super) fn thin(&self, text: &str, row: Id, draw: &Draw) -> String {
        let words = text.split_whitespace().count();
        let dropped = exact_count(self.drop, words).clamp(1, words.saturating_sub(1).max(1));
        let places: Vec<String> = (0..words).map(|place| format!("{row}/{place}")).collect();
        let marks = draw.lowest(&places, if words > 1 { dropped } else { 0 });
        let mut thin = String::with_capacity(text.len());
        let mut end = 0;
        for (word, dropped) in text.split_whitespace().zip(marks) {
            // The word starts at its first match after the end of the previous word.
            let start = text[end..].find(word).map_or(end, |offset| end + offset);
            let before = std::mem::replace(&mut end, start + word.len());
            if !dropped {
                thin.push_str(&text[before..end]);
            }
        }
        thin.trim_start().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Message, table::ids::prompt_id};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn exactly_the_share_of_the_words_goes(words in proptest::collection::vec("a{1,3}", 0..30), drop in 0.0..=1.0f64) {
            let text = words.join(" \n");
            let kind = DropWords { desirable: 0.0, undesirable: 0.0, drop };
            let thin = kind.thin(&text, prompt_id(&[Message::user("p")]), &Draw::new(1, PURPOSE));
            let left = if words.len() < 2 { words.len() } else {
                words.len() - exact_count(drop, words.len()).clamp(1, words.len() - 1)
            };
            prop_assert_eq!(thin.split_whitespace().count(), left);
            prop_assert_eq!(thin.trim(), &thin);
        }
    }
}
