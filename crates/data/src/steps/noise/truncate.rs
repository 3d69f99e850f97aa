//! Truncation: completions that end early.
//!
//! The last message keeps its first round(keep × characters) characters, at least one but not all,
//! without trailing white space.

use prospect_core::draw::{Draw, exact_count};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    counts::NoiseKindCounts,
    sampling::{self, Candidate, NoiseMark},
};
use crate::table::corruption::TextNoise;
use crate::table::feedback::{Feedback, FeedbackRow};

/// Truncated completions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Truncate {
    /// Share of the desirable rows (0).
    #[serde(default)]
    pub desirable: f64,
    /// Share of the undesirable rows (0).
    #[serde(default)]
    pub undesirable: f64,
    /// Share of the characters to keep (0.5).
    #[serde(default = "half")]
    pub keep: f64,
}

fn half() -> f64 {
    0.5
}

impl Truncate {
    pub(super) fn apply(&self, feedback: &mut Feedback, seed: u64) -> NoiseKindCounts {
        let candidate = |_: &Feedback, row: &FeedbackRow| {
            (row.characters > 1).then_some(Candidate { key: row.id, log_weight: 0.0 })
        };
        let rates = [self.desirable, self.undesirable];
        sampling::mark_rows(
            feedback,
            &Draw::new(seed, "truncate"),
            rates,
            NoiseMark::Text(TextNoise::Truncate),
            candidate,
        )
    }

    /// Returns the kept beginning of a text.
    pub(super) fn cut<'a>(&self, text: &'a str) -> &'a str {
        let characters = text.chars().count();
        let kept = exact_count(self.keep, characters).clamp(1, characters.saturating_sub(1).max(1));
        text.char_indices().nth(kept).map_or(text, |(end, _)| text[..end].trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_keeps_its_beginning() {
        let cut = |keep, text| Truncate { desirable: 0.0, undesirable: 0.0, keep }.cut(text).to_owned();
        assert_eq!(cut(0.5, "añb cd"), "añb");
        assert_eq!(cut(0.7, "añb cd"), "añb");
        assert_eq!((cut(0.0, "ab").as_str(), cut(1.0, "ab").as_str()), ("a", "a"));
    }
}
