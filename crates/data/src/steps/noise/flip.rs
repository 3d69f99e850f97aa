//! Label flips: a share of each class gets the opposite label. Equal rates give symmetric noise,
//! unequal ones asymmetric noise.
//!
//! Draws are keyed by pair, so both rows of a pair flip together at equal rates.

use prospect_core::draw::Draw;

use super::{
    counts::NoiseKindCounts,
    sampling::{self, Candidate, NoiseMark},
};
use crate::table::corruption::LabelNoise;
use crate::table::feedback::{Feedback, FeedbackRow};

pub(super) fn apply(
    feedback: &mut Feedback,
    desirable: f64,
    undesirable: f64,
    seed: u64,
) -> Option<NoiseKindCounts> {
    if desirable == 0.0 && undesirable == 0.0 {
        return None;
    }
    let candidate = |feedback: &Feedback, row: &FeedbackRow| {
        Some(Candidate { key: feedback.judgement_id(row), log_weight: 0.0 })
    };
    let (draw, mark) = (Draw::new(seed, "flip"), NoiseMark::Label(LabelNoise::Flip));
    Some(sampling::mark_rows(feedback, &draw, [desirable, undesirable], mark, candidate))
}
