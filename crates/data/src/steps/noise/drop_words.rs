//! Dropped words: completions miss words here and there.
//!
//! Words are what white space separates. Of the last message's n words round(drop × n) go, at least one and not all:
//! those of lowest draw, each with the white space before it.

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

/// The purpose of the draws for words.
pub(super) const PURPOSE: &str = "dropped words";

/// Completions that miss words.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DropWords {
    /// Share of the desirable rows.
    #[serde(default)]
    pub desirable: f64,
    /// Share of the undesirable rows.
    #[serde(default)]
    pub undesirable: f64,
    /// Share of the words that goes.
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

    /// A text without some of its words; `row` names the row it is the completion of.
    pub(super) fn thin(&self, text: &str, row: Id, draw: &Draw) -> String {
        let words = text.split_whitespace().count();
        let dropped = exact_count(self.drop, words).clamp(1, words.saturating_sub(1).max(1));
        let places: Vec<String> = (0..words).map(|place| format!("{row}/{place}")).collect();
        let marks = draw.lowest(&places, if words > 1 { dropped } else { 0 });
        let mut thin = String::with_capacity(text.len());
        let mut end = 0;
        for (word, dropped) in text.split_whitespace().zip(marks) {
            // Where the word stands: behind the end of the one before it.
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
