//! Swaps: a share of the complete pairs has its sides exchanged, which inverts the labels of both
//! rows.

use prospect_core::draw::{Draw, exact_count};

use super::{counts::NoiseKindCounts, sampling};
use crate::table::corruption::LabelNoise;
use crate::table::{
    feedback::{Feedback, lowest},
    ids::Id,
};

pub(super) fn apply(feedback: &mut Feedback, rate: f64, seed: u64) -> Option<NoiseKindCounts> {
    if rate == 0.0 {
        return None;
    }
    let eligible = sampling::free_pairs(feedback);
    let candidates: Vec<(Id, u32)> =
        eligible.iter().map(|index| (feedback.pairs[*index as usize].id, *index)).collect();
    let chosen = lowest(&Draw::new(seed, "swap"), &candidates, exact_count(rate, candidates.len()));
    Some(sampling::mark_pairs(feedback, &eligible, &chosen, LabelNoise::Swap))
}
