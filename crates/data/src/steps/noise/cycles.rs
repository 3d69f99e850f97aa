//! Cycles: intransitive preferences.
//!
//! If a prompt has the pairs A over B, B over C and A over C, the last one is swapped, which gives
//! A over B, B over C and C over A. The rate is a share of the prompts with such a triangle; each
//! prompt gets at most one cycle.

use std::collections::{BTreeMap, HashMap};

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
    let draw = Draw::new(seed, "cycles");
    let mut pairs: BTreeMap<Id, Vec<u32>> = BTreeMap::new();
    for index in sampling::free_pairs(feedback) {
        let row = &feedback.rows[feedback.pairs[index as usize].chosen as usize];
        pairs.entry(feedback.group(row).prompt).or_default().push(index);
    }
    // Among the pairs that close a triangle, each prompt contributes the one with the lowest draw.
    let closing: Vec<(Id, u32)> = pairs
        .into_iter()
        .filter_map(|(prompt, pairs)| {
            let mut over: HashMap<Id, Vec<Id>> = HashMap::new();
            for index in &pairs {
                let [chosen, rejected] = feedback.sides(&feedback.pairs[*index as usize]);
                over.entry(chosen.id).or_default().push(rejected.id);
            }
            let closes = |index: &u32| {
                let [first, last] = feedback.sides(&feedback.pairs[*index as usize]);
                let below = over.get(&first.id);
                below.is_some_and(|middle| {
                    middle.iter().any(|middle| over.get(middle).is_some_and(|below| below.contains(&last.id)))
                })
            };
            let key = |index: &u32| draw.bits(feedback.pairs[*index as usize].id.digits().as_ref());
            let pair = pairs.iter().copied().filter(closes).min_by_key(|index| (key(index), *index))?;
            Some((prompt, pair))
        })
        .collect();
    let chosen = lowest(&draw, &closing, exact_count(rate, closing.len()));
    let eligible: Vec<u32> = closing.into_iter().map(|(_, pair)| pair).collect();
    Some(sampling::mark_pairs(feedback, &eligible, &chosen, LabelNoise::Cycle))
}
