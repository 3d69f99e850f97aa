//! Selection of the rows to corrupt: exact counts, nested across rates, weighted.

use prospect_core::{
    draw::{Draw, exact_count},
    sample::k_lowest,
};
use rayon::prelude::*;

use super::counts::{ChangeCounts, NoiseKindCounts};
use crate::table::corruption::{LabelNoise, TextNoise};
use crate::{
    Split,
    table::{
        feedback::{Feedback, FeedbackRow},
        ids::Id,
    },
};

/// Row that may change: the key of its draw, and the natural logarithm of its sampling weight.
pub(super) struct Candidate {
    pub(super) key: Id,
    pub(super) log_weight: f64,
}

/// Change that a kind of noise makes to a row.
#[derive(Clone, Copy)]
pub(super) enum NoiseMark {
    Label(LabelNoise),
    Text(TextNoise),
}

impl NoiseMark {
    /// Returns true if the row has no noise of this sort yet.
    pub(super) fn accepts(self, row: &FeedbackRow) -> bool {
        match self {
            Self::Label(_) => row.corruption.label == LabelNoise::Original,
            Self::Text(_) => row.corruption.text == TextNoise::Original,
        }
    }

    pub(super) fn apply_to(self, row: &mut FeedbackRow) {
        match self {
            Self::Label(judgement) => row.corruption.label = judgement,
            Self::Text(text) => row.corruption.text = text,
        }
    }
}

/// Marks `rate × eligible` rows of each class; `rates` are those of the desirable and undesirable
/// rows.
pub(super) fn mark_rows(
    feedback: &mut Feedback,
    draw: &Draw,
    rates: [f64; 2],
    mark: NoiseMark,
    candidate: impl Fn(&Feedback, &FeedbackRow) -> Option<Candidate> + Sync,
) -> NoiseKindCounts {
    let mut class = |label, rate| {
        let candidates: Vec<(Candidate, u32)> = feedback
            .training_class(label)
            .into_par_iter()
            .filter_map(|index| {
                let row = &feedback.rows[index as usize];
                let candidate = if mark.accepts(row) { candidate(feedback, row) } else { None };
                candidate.map(|candidate| (candidate, index))
            })
            .collect();
        let chosen = weighted_sample(draw, &candidates, exact_count(rate, candidates.len()));
        for index in &chosen {
            mark.apply_to(&mut feedback.rows[*index as usize]);
        }
        ChangeCounts { eligible: candidates.len() as u64, changed: chosen.len() as u64 }
    };
    NoiseKindCounts { desirable: class(true, rates[0]), undesirable: class(false, rates[1]), drawn: None }
}

/// Returns the indices of `count` candidates, sampled without replacement in proportion to their
/// weights (Efraimidis and Spirakis 2006). Each candidate gets an exponential waiting time with its
/// weight as the rate; the shortest times win. Equal weights reduce this to the order of the draws.
pub(super) fn weighted_sample(draw: &Draw, candidates: &[(Candidate, u32)], count: usize) -> Vec<u32> {
    // The sort key is the log waiting time as an order-preserving integer, then the draw, which has
    // more bits.
    let time = |candidate: &Candidate| {
        let bits = draw.bits(candidate.key.digits().as_ref());
        let log_time = (-(-uniform(bits)).ln_1p()).ln() - candidate.log_weight;
        (ordered(if candidate.log_weight == 0.0 { 0.0 } else { log_time }), bits)
    };
    let ranked: Vec<((u64, u64), u32)> =
        candidates.par_iter().map(|(candidate, index)| (time(candidate), *index)).collect();
    k_lowest(ranked, count).into_iter().map(|(_, index)| index).collect()
}

/// Maps 64 random bits to a number in (0, 1).
pub(super) fn uniform(bits: u64) -> f64 {
    // An f64 holds 53 bits; the added half excludes both ends.
    ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// Maps a number to an integer of the same order.
fn ordered(number: f64) -> u64 {
    let bits = number.to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// Returns the indices of complete training pairs whose rows have no label noise.
pub(super) fn free_pairs(feedback: &Feedback) -> Vec<u32> {
    let free = |pair: &crate::table::feedback::FeedbackPair| {
        let [chosen, rejected] = feedback.sides(pair);
        feedback.is_whole(pair)
            && feedback.split(chosen) == Split::Train
            && [chosen, rejected].iter().all(|row| !row.corruption.is_flipped())
    };
    (0..feedback.pairs.len() as u32).filter(|index| free(&feedback.pairs[*index as usize])).collect()
}

/// Inverts the labels of both rows of the chosen pairs, and counts the eligible rows.
pub(super) fn mark_pairs(
    feedback: &mut Feedback,
    eligible: &[u32],
    chosen: &[u32],
    judgement: LabelNoise,
) -> NoiseKindCounts {
    for index in chosen {
        let pair = feedback.pairs[*index as usize];
        for row in [pair.chosen, pair.rejected] {
            NoiseMark::Label(judgement).apply_to(&mut feedback.rows[row as usize]);
        }
    }
    let rows = ChangeCounts { eligible: eligible.len() as u64, changed: chosen.len() as u64 };
    NoiseKindCounts { desirable: rows, undesirable: rows, drawn: Some(rows) }
}
