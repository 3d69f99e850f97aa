//! Signals against a label that need no model.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{ItemKind, TriageItem, cut_off::is_cut_off, near};
use crate::Message;

/// Signal against a label, the most telling first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, strum::Display, strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Signal {
    /// The same completion of the same prompt has the other label at least as often.
    OppositeLabel,
    /// The same two completions are preferred the other way round at least as often.
    BothOrders,
    /// The scores of the source contradict the label: the rejected completion has the higher score,
    /// or most completions of the prompt with the other label have scores on the wrong side.
    Score,
    /// A near duplicate, of prompt and completions, has the opposite label.
    NearDuplicate,
    /// The chosen or desirable completion is empty.
    Empty,
    /// The chosen or desirable completion ends in the middle of a sentence, and the rejected one
    /// does not.
    CutOff,
}

impl Signal {
    /// Describes the signal in a few words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::OppositeLabel => "the same completion has the opposite label at least as often",
            Self::BothOrders => "the same pair occurs in the other order at least as often",
            Self::Score => "the scores contradict the label",
            Self::NearDuplicate => "a near duplicate has the opposite label",
            Self::Empty => "the preferred completion is empty",
            Self::CutOff => "the preferred completion ends in the middle of a sentence",
        }
    }
}

/// Marks judgements with the signals against them.
pub fn mark(items: &mut [TriageItem]) {
    contradictions(items);
    scores(items);
    for (one, other) in near::opposites(items) {
        let ids = [items[other].id.clone(), items[one].id.clone()];
        for (index, id) in [one, other].into_iter().zip(ids) {
            add(&mut items[index], Signal::NearDuplicate, Some(id));
        }
    }
    for item in items.iter_mut().filter(|item| item.label) {
        let rejected_breaks = item.rejected.as_deref().is_some_and(|side| is_cut_off(text(side)));
        if text(&item.completion).trim().is_empty() {
            add(item, Signal::Empty, None);
        } else if is_cut_off(text(&item.completion)) && !rejected_breaks {
            add(item, Signal::CutOff, None);
        }
    }
    for item in items {
        item.signals.sort_unstable();
    }
}

/// Returns the text that was judged: the last turn of a completion.
fn text(completion: &[Message]) -> &str {
    completion.last().map_or("", |message| &message.content)
}

fn add(item: &mut TriageItem, signal: Signal, counterpart: Option<String>) {
    if !item.signals.contains(&signal) {
        item.signals.push(signal);
    }
    item.counterpart = item.counterpart.take().or(counterpart);
}

/// Marks judgements whose opposite occurs at least as often.
fn contradictions(items: &mut [TriageItem]) {
    let mut judgements: BTreeMap<(ItemKind, String), [Vec<usize>; 2]> = BTreeMap::new();
    for (index, item) in items.iter().enumerate() {
        // Both orders of a pair have one key: its two texts in alphabetical order.
        let (key, side) = match &item.rejected {
            None => (item.content_id.clone(), item.label),
            Some(rejected) => {
                let [one, other] = [&item.completion, rejected].map(|side| text(side));
                let texts = if one <= other { [one, other] } else { [other, one] };
                (format!("{}\0{}\0{}", item.prompt_id, texts[0], texts[1]), one <= other)
            }
        };
        judgements.entry((item.kind, key)).or_default()[usize::from(side)].push(index);
    }
    for ((kind, _), sides) in judgements {
        let signal = match kind {
            ItemKind::Pair => Signal::BothOrders,
            ItemKind::Thumb => Signal::OppositeLabel,
        };
        for (own, other) in [(&sides[0], &sides[1]), (&sides[1], &sides[0])] {
            let Some(first) = other.first().filter(|_| other.len() >= own.len()) else { continue };
            let counterpart = items[*first].id.clone();
            for index in own {
                add(&mut items[*index], signal, Some(counterpart.clone()));
            }
        }
    }
}

/// Marks pairs with the higher score on the rejected side, and thumbs whose score is on the wrong
/// side of most thumbs of their prompt with the other label.
fn scores(items: &mut [TriageItem]) {
    let mut by_prompt: BTreeMap<String, Vec<(usize, f64, bool)>> = BTreeMap::new();
    for (index, item) in items.iter_mut().enumerate() {
        match (item.kind, item.scores) {
            (ItemKind::Pair, [Some(chosen), Some(rejected)]) if chosen < rejected => {
                add(item, Signal::Score, None);
            }
            (ItemKind::Thumb, [Some(score), _]) => {
                by_prompt.entry(item.prompt_id.clone()).or_default().push((index, score, item.label));
            }
            _ => {}
        }
    }
    for thumbs in by_prompt.values() {
        for (index, score, label) in thumbs {
            let others = thumbs.iter().filter(|(_, _, other)| other != label);
            // Positive where the other completion is on the right side of this one.
            let right = others.map(|(_, other, _)| if *label { score - other } else { other - score });
            let (mut agree, mut contradict) = (0, 0);
            for difference in right {
                agree += usize::from(difference > 0.0);
                contradict += usize::from(difference < 0.0);
            }
            if contradict > agree {
                add(&mut items[*index], Signal::Score, None);
            }
        }
    }
}
