//! Noisy feedback: labels of training rows flipped, with the label before kept beside.
//!
//! Rows are ranked by their pair, so that at equal rates both rows of a pair flip together and the paired file has
//! the very same corruption: a pair is swapped if any of its rows is flipped.

use prospect_core::draw::{Draw, exact_count};
use serde::{Deserialize, Serialize};

use crate::{
    Split,
    feedback::{Feedback, Row, lowest},
    ids::Id,
};

/// The share of each class of training rows to flip.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Noise {
    /// Share of the desirable rows that become undesirable.
    pub flip_desirable: f64,
    /// Share of the undesirable rows that become desirable.
    pub flip_undesirable: f64,
    /// Seed of which rows flip; the recipe's own if not given. Lets a sweep draw anew while the split stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// What noise changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoiseCounts {
    /// Desirable training rows that became undesirable.
    pub flipped_desirable: u64,
    /// Undesirable training rows that became desirable.
    pub flipped_undesirable: u64,
    /// Training pairs whose sides were exchanged.
    pub swapped_pairs: u64,
}

/// What noise did to a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Noisy {
    /// Nothing.
    #[default]
    None,
    /// Its label was flipped.
    Flip,
}

impl Noisy {
    /// Whether the label is the opposite of the original one.
    pub(crate) fn flipped(self) -> bool {
        self == Self::Flip
    }

    /// What the `noise` column says.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Flip => "flip",
        }
    }
}

/// Flips the share of each class of training rows that the recipe says.
pub(crate) fn flip(feedback: &mut Feedback, noise: Noise, seed: u64) -> NoiseCounts {
    let draw = Draw::new(noise.seed.unwrap_or(seed), "flip");
    let mut class = |label, fraction| {
        let rows = feedback.class(label);
        let key = |row: &Row| feedback.pair(row).map_or(row.id, |pair| pair.id);
        let candidates: Vec<(Id, u32)> =
            rows.iter().map(|index| (key(&feedback.rows[*index as usize]), *index)).collect();
        let selected = lowest(&draw, &candidates, exact_count(fraction, rows.len()));
        for index in &selected {
            feedback.rows[*index as usize].noisy = Noisy::Flip;
        }
        selected.len() as u64
    };
    let flipped_desirable = class(true, noise.flip_desirable);
    let flipped_undesirable = class(false, noise.flip_undesirable);
    let swapped = feedback.kept_pairs(Split::Train).filter(|pair| feedback.swapped(pair)).count();
    NoiseCounts { flipped_desirable, flipped_undesirable, swapped_pairs: swapped as u64 }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::feedback::tests::many;
    use proptest::prelude::*;

    fn flipped(noise: Noise, seed: u64) -> (NoiseCounts, HashSet<(String, bool)>) {
        let mut feedback = many(83);
        let counts = flip(&mut feedback, noise, seed);
        let rows = feedback.rows.iter().filter(|row| row.noisy.flipped());
        (counts, rows.map(|row| (row.id.to_string(), row.original_label)).collect())
    }

    proptest! {
        #[test]
        fn counts_are_exact_and_less_noise_is_a_subset(a in 0.0..=1.0f64, b in 0.0..=1.0f64, seed: u64) {
            let noise = |rate| Noise { flip_desirable: rate, flip_undesirable: 0.2, seed: None };
            let ((counts, small), (_, large)) = (flipped(noise(a.min(b)), seed), flipped(noise(a.max(b)), seed));
            prop_assert!(small.is_subset(&large));
            prop_assert_eq!(counts.flipped_desirable as usize, prospect_core::draw::exact_count(a.min(b), 83));
            prop_assert_eq!(counts.flipped_undesirable, 17);
            prop_assert_eq!(counts.swapped_pairs, counts.flipped_desirable.max(17));
        }

        #[test]
        fn at_equal_rates_pairs_flip_whole(rate in 0.0..=1.0f64, seed: u64) {
            let mut feedback = many(50);
            let counts = flip(&mut feedback, Noise { flip_desirable: rate, flip_undesirable: rate, seed: None }, seed);
            prop_assert!(feedback.pairs.iter().all(|pair| feedback.sides(pair).iter().all(|row| row.noisy.flipped()) == feedback.swapped(pair)));
            prop_assert_eq!(counts.swapped_pairs, counts.flipped_desirable);
        }
    }
}
