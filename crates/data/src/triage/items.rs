//! Judgements of a dataset to triage: its pairs, and its rows outside of pairs.

use std::{collections::BTreeSet, path::Path};

use serde::Serialize;

use crate::{
    BinaryRow, DataError, Message, PairRow, Signal, Split, read_binary, read_pairs,
    table::ids::{Id, pair_id, row_id},
};

/// Kind of a judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum ItemKind {
    /// A chosen and a rejected completion.
    Pair,
    /// A labelled completion outside of pairs.
    Thumb,
}

/// A judgement to triage.
#[derive(Debug, Clone, PartialEq)]
pub struct TriageItem {
    /// Pair or thumb.
    pub kind: ItemKind,
    /// Id of the pair or of the row, which `exclude` and `flip` of a recipe understand.
    pub id: String,
    /// Id of what the dataset holds after noise: of the pair of texts in their order, or of prompt
    /// and completion. Equal contents have equal scores under a policy.
    pub content_id: String,
    /// Id of the prompt.
    pub prompt_id: String,
    /// Split that the judgement is in.
    pub split: Split,
    /// Name of the source.
    pub source: String,
    /// Domain within the source.
    pub domain: String,
    /// Label of a thumb; true for pairs.
    pub label: bool,
    /// True if noise changed the label or exchanged the sides: the truth that a triage is measured
    /// by.
    pub is_flipped: bool,
    /// Conversation before the completions.
    pub prompt: Vec<Message>,
    /// Chosen completion of a pair, or the completion of a thumb.
    pub completion: Vec<Message>,
    /// Rejected completion of a pair.
    pub rejected: Option<Vec<Message>>,
    /// Scores of `completion` and `rejected`, if the source has scores.
    pub scores: [Option<f64>; 2],
    /// Signals against the label, in the order of [`Signal`].
    pub signals: Vec<Signal>,
    /// Id of the judgement that contradicts this one, if a signal has one.
    pub counterpart: Option<String>,
}

impl TriageItem {
    fn pair(row: PairRow, split: Split) -> Result<Self, DataError> {
        let prompt = parse(&row.prompt_id)?;
        let [chosen, rejected] = [&row.chosen, &row.rejected].map(|side| row_id(prompt, side));
        Ok(Self {
            kind: ItemKind::Pair,
            content_id: pair_id(prompt, chosen, rejected).to_string(),
            id: row.pair_id,
            prompt_id: row.prompt_id,
            split,
            source: row.source,
            domain: row.domain,
            label: true,
            is_flipped: row.swapped,
            prompt: row.prompt,
            completion: row.chosen,
            rejected: Some(row.rejected),
            scores: [row.score_chosen, row.score_rejected],
            signals: Vec::new(),
            counterpart: None,
        })
    }

    fn thumb(row: BinaryRow, split: Split) -> Result<Self, DataError> {
        Ok(Self {
            kind: ItemKind::Thumb,
            content_id: row_id(parse(&row.prompt_id)?, &row.completion).to_string(),
            id: row.id,
            prompt_id: row.prompt_id,
            split,
            source: row.source,
            domain: row.domain,
            label: row.label,
            is_flipped: row.label != row.original_label,
            prompt: row.prompt,
            completion: row.completion,
            rejected: None,
            scores: [row.score, None],
            signals: Vec::new(),
            counterpart: None,
        })
    }

    /// Entry of the lists `exclude` and `flip` that means this judgement only.
    pub fn list_entry(&self) -> String {
        match self.kind {
            ItemKind::Pair => self.id.clone(),
            ItemKind::Thumb => format!("{} {}", self.id, self.label),
        }
    }
}

/// Reads an id of a dataset.
pub(super) fn parse(id: &str) -> Result<Id, DataError> {
    Id::parse(id).ok_or_else(|| DataError::ForeignId(id.to_owned()))
}

/// Reads all judgements of a prepared dataset, of both splits: pairs in file order, then rows in no
/// pair of their split.
pub fn read_items(dataset: &Path) -> Result<Vec<TriageItem>, DataError> {
    let mut items = Vec::new();
    for split in Split::ALL {
        let pairs = read_pairs(dataset, split)?;
        let known: BTreeSet<String> = pairs.iter().map(|pair| pair.pair_id.clone()).collect();
        for pair in pairs {
            items.push(TriageItem::pair(pair, split)?);
        }
        for row in read_binary(dataset, split)? {
            if row.pair_id.as_ref().is_none_or(|pair| !known.contains(pair)) {
                items.push(TriageItem::thumb(row, split)?);
            }
        }
    }
    Ok(items)
}
