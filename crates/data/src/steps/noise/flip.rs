//! Flips: a share of each class gets the other label. Equal rates are symmetric noise, unequal ones asymmetric.
//!
//! Rows are drawn by their pair, so that at equal rates both rows of a pair flip together.

use prospect_core::draw::Draw;

use super::{
    Judgement, KindCounts,
    mark::{self, Candidate, Mark},
};
use crate::feedback::{Feedback, Row};

pub(super) fn apply(
    feedback: &mut Feedback,
    desirable: f64,
    undesirable: f64,
    seed: u64,
) -> Option<KindCounts> {
    if desirable == 0.0 && undesirable == 0.0 {
        return None;
    }
    let candidate =
        |feedback: &Feedback, row: &Row| Some(Candidate { key: feedback.judged(row), log_weight: 0.0 });
    let (draw, mark) = (Draw::new(seed, "flip"), Mark::Judgement(Judgement::Flip));
    Some(mark::rows(feedback, &draw, [desirable, undesirable], mark, candidate))
}
