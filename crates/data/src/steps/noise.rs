//! Label and text noise for training rows, with provenance.
//!
//! Each kind of noise has its own file and its own random draws; kinds apply in the order of
//! [`Noise::apply`]. Adding a kind, or changing the rate of a later kind, never changes the rows
//! that an earlier kind draws. Within a kind, a smaller rate corrupts a subset of the rows that a
//! larger rate does. A row gets at most one kind of label noise and one of text noise.
//!
//! Noise is defined on rows, and both output files reflect it. A pair is swapped if the label of
//! any of its rows is flipped, and it has the corrupted texts of its rows.

use std::borrow::Cow;

use prospect_core::draw::Draw;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    DataError, Message, Split,
    table::{
        corruption::TextNoise,
        feedback::{Feedback, FeedbackRow},
    },
};

mod annotators;
mod counts;
mod cycles;
mod drop_words;
mod flip;
mod length_flip;
mod sampling;
mod score_flip;
mod shuffle;
mod swap;
mod truncate;

pub use annotators::Annotators;
pub use counts::{ChangeCounts, NoiseCounts, NoiseKindCounts};
pub use drop_words::DropWords;
pub use length_flip::LengthFlip;
pub use score_flip::ScoreFlip;
pub use shuffle::Shuffle;
pub use truncate::Truncate;

/// Noise settings. Shares refer to the training rows after imbalance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Noise {
    /// Share of desirable rows that become undesirable.
    pub flip_desirable: f64,
    /// Share of undesirable rows that become desirable.
    pub flip_undesirable: f64,
    /// Share of complete pairs whose chosen and rejected sides are exchanged.
    pub swap_pairs: f64,
    /// Label flips that are more likely the closer the scores of a pair are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score_flip: Option<ScoreFlip>,
    /// Label flips that favour long completions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length_flip: Option<LengthFlip>,
    /// Annotator groups, including contrary ones that prefer the opposite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotators: Option<Annotators>,
    /// Share of prompts that get an intransitive cycle: of the pairs A over B, B over C and A over
    /// C, the last one is swapped.
    pub cycles: f64,
    /// Completions replaced by those of other prompts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shuffle: Option<Shuffle>,
    /// Truncated completions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncate: Option<Truncate>,
    /// Completions with dropped words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_words: Option<DropWords>,
    /// Seed for choosing the rows to corrupt; the recipe's seed if not given. It lets a sweep
    /// redraw the noise while the split stays the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl Noise {
    /// Returns the rates and shares of the recipe with their keys.
    pub(crate) fn fractions(&self) -> Vec<(&'static str, f64)> {
        let Self { score_flip, length_flip, annotators, shuffle, truncate, drop_words, .. } = self;
        let mut fractions = vec![
            ("noise.flip_desirable", self.flip_desirable),
            ("noise.flip_undesirable", self.flip_undesirable),
            ("noise.swap_pairs", self.swap_pairs),
            ("noise.cycles", self.cycles),
        ];
        let mut add = |key, value: Option<f64>| fractions.extend(value.map(|value| (key, value)));
        add("noise.score_flip.desirable", score_flip.and_then(|kind| kind.desirable));
        add("noise.score_flip.undesirable", score_flip.and_then(|kind| kind.undesirable));
        add("noise.length_flip.desirable", length_flip.map(|kind| kind.desirable));
        add("noise.length_flip.undesirable", length_flip.map(|kind| kind.undesirable));
        add("noise.annotators.contrary", annotators.map(|kind| kind.contrary));
        add("noise.shuffle.desirable", shuffle.map(|kind| kind.desirable));
        add("noise.shuffle.undesirable", shuffle.map(|kind| kind.undesirable));
        add("noise.truncate.desirable", truncate.map(|kind| kind.desirable));
        add("noise.truncate.undesirable", truncate.map(|kind| kind.undesirable));
        add("noise.truncate.keep", truncate.map(|kind| kind.keep));
        add("noise.drop_words.desirable", drop_words.map(|kind| kind.desirable));
        add("noise.drop_words.undesirable", drop_words.map(|kind| kind.undesirable));
        add("noise.drop_words.drop", drop_words.map(|kind| kind.drop));
        fractions
    }

    /// Fails if a value is out of range.
    pub(crate) fn check(&self) -> Result<(), DataError> {
        let positive = [
            ("noise.score_flip.temperature", self.score_flip.map(|kind| kind.temperature)),
            ("noise.length_flip.temperature", self.length_flip.map(|kind| kind.temperature)),
            ("noise.annotators.groups", self.annotators.map(|kind| f64::from(kind.groups))),
        ];
        for (key, value) in positive {
            if value.is_some_and(|value| !(value > 0.0 && value.is_finite())) {
                let (key, value) = (key.into(), value.unwrap_or_default().to_string());
                return Err(DataError::Value { key, value, message: "must be a finite number above 0" });
            }
        }
        Ok(())
    }

    /// Returns true if the recipe requests no noise.
    pub(crate) fn is_none(&self) -> bool {
        *self == Self { seed: self.seed, ..Self::default() }
    }

    /// Applies the noise to the training rows.
    pub(crate) fn apply(&self, feedback: &mut Feedback, seed: u64) -> NoiseCounts {
        let seed = self.seed.unwrap_or(seed);
        let mut counts = NoiseCounts::default();
        let mut kind = |name: &str, kind: Option<NoiseKindCounts>| {
            counts.kinds.extend(kind.map(|kind| (name.to_owned(), kind)));
        };
        kind("flip", flip::apply(feedback, self.flip_desirable, self.flip_undesirable, seed));
        kind("swap_pairs", swap::apply(feedback, self.swap_pairs, seed));
        kind("score_flip", self.score_flip.map(|kind| kind.apply(feedback, seed)));
        kind("length_flip", self.length_flip.map(|kind| kind.apply(feedback, seed)));
        kind("annotators", self.annotators.map(|kind| kind.apply(feedback, seed)));
        kind("cycles", cycles::apply(feedback, self.cycles, seed));
        kind("shuffle", self.shuffle.map(|kind| kind.apply(feedback, seed)));
        kind("truncate", self.truncate.map(|kind| kind.apply(feedback, seed)));
        kind("drop_words", self.drop_words.map(|kind| kind.apply(feedback, seed)));
        for row in feedback.kept(Split::Train) {
            counts.flipped_desirable += u64::from(row.corruption.is_flipped() && row.original_label);
            counts.flipped_undesirable += u64::from(row.corruption.is_flipped() && !row.original_label);
            counts.changed_completions += u64::from(row.corruption.text != TextNoise::Original);
        }
        let swapped = feedback.kept_pairs(Split::Train).filter(|pair| feedback.is_swapped(pair));
        counts.swapped_pairs = swapped.count() as u64;
        counts
    }

    /// Returns the text transformations of this noise.
    pub(crate) fn text_corruptor(&self, seed: u64) -> TextCorruptor {
        let draw = Draw::new(self.seed.unwrap_or(seed), drop_words::PURPOSE);
        TextCorruptor { truncate: self.truncate, drop_words: self.drop_words, draw }
    }

    /// Returns a message for each rate that changed nothing.
    pub(crate) fn idle(&self, counts: &NoiseCounts) -> Vec<String> {
        let mut idle = Vec::new();
        for (key, share) in self.fractions() {
            let mut parts = key.split('.').skip(1);
            let (Some(name), field) = (parts.next(), parts.next()) else {
                continue;
            };
            let kind = |name: &str| counts.kinds.get(name).copied().unwrap_or_default();
            let changed = match (name, field) {
                ("flip_desirable", _) => kind("flip").desirable,
                ("flip_undesirable", _) => kind("flip").undesirable,
                ("swap_pairs" | "cycles" | "annotators", _) => kind(name).drawn.unwrap_or_default(),
                (_, Some("desirable")) => kind(name).desirable,
                (_, Some("undesirable")) => kind(name).undesirable,
                // Not a rate, but how much of a completion is kept or dropped.
                _ => continue,
            };
            if share != 0.0 && changed.changed == 0 {
                let why = match changed.eligible {
                    0 => "there is nothing that it could change".to_owned(),
                    eligible => format!("it rounds to 0 of {eligible}"),
                };
                idle.push(format!("`{key}: {share}` has no effect: {why}"));
            }
        }
        let unscored = |kind: &ScoreFlip| kind.desirable.is_none() && kind.undesirable.is_none();
        if self.score_flip.as_ref().is_some_and(unscored) {
            let drawn = counts.kinds.get("score_flip").and_then(|kind| kind.drawn).unwrap_or_default();
            if drawn.changed == 0 {
                let eligible = drawn.eligible;
                idle.push(format!("`noise.score_flip` has no effect: it flips 0 of {eligible} scored pairs"));
            }
        }
        idle
    }
}

/// Applies text noise to completions.
pub(crate) struct TextCorruptor {
    truncate: Option<Truncate>,
    drop_words: Option<DropWords>,
    draw: Draw,
}

impl TextCorruptor {
    /// Returns the completion of a row. Shuffled completions were already replaced.
    pub(crate) fn corrupt<'a>(&self, row: &FeedbackRow, completion: &'a [Message]) -> Cow<'a, [Message]> {
        let last = |change: &dyn Fn(&str) -> String| {
            let mut messages = completion.to_vec();
            if let Some(message) = messages.last_mut() {
                message.content = change(&message.content);
            }
            Cow::Owned(messages)
        };
        match (row.corruption.text, self.truncate, self.drop_words) {
            (TextNoise::Truncate, Some(truncate), _) => last(&|text| truncate.cut(text).to_owned()),
            (TextNoise::DropWords, _, Some(drop_words)) => {
                last(&|text| drop_words.thin(text, row.id, &self.draw))
            }
            _ => Cow::Borrowed(completion),
        }
    }
}

#[cfg(test)]
mod tests;
