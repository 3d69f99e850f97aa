//! Example rows, drawn by hash: reproducible, and from anywhere in the files.

use std::collections::BTreeMap;

use prospect_core::draw::Draw;
use serde::Serialize;

use crate::{BinaryRow, Message, Split};

/// An example row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Example {
    /// Split of the row.
    pub split: Split,
    /// Row id.
    pub id: String,
    /// Label after noise.
    pub label: bool,
    /// Label before noise.
    pub original_label: bool,
    /// Kinds of noise applied, or `none`.
    pub noise: String,
    /// Source.
    pub source: String,
    /// Domain within the source.
    pub domain: String,
    /// Source's score of the completion.
    pub score: Option<f64>,
    /// Prompt.
    pub prompt: Vec<Message>,
    /// Completion that was judged.
    pub completion: Vec<Message>,
}

/// Rows that are sampled together, in the order of the summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Stratum {
    split: Split,
    corrupted: bool,
    undesirable: bool,
}

/// The rows with the lowest draws in each stratum.
pub(super) struct ExampleSampler {
    count: usize,
    draw: Draw,
    rows: BTreeMap<Stratum, BTreeMap<(u64, u64), Example>>,
    seen: u64,
}

impl ExampleSampler {
    /// Collects `count` rows of each stratum.
    pub(super) fn new(count: usize) -> Self {
        Self { count, draw: Draw::new(0, "examples to look at"), rows: BTreeMap::new(), seen: 0 }
    }

    /// Adds a row if its draw is low enough.
    pub(super) fn offer(&mut self, split: Split, row: BinaryRow) {
        self.seen += 1;
        let rank = (self.draw.bits(&row.id), self.seen);
        let stratum = Stratum { split, corrupted: row.is_corrupted(), undesirable: !row.label };
        let rows = self.rows.entry(stratum).or_default();
        if rows.len() >= self.count && rows.last_key_value().is_none_or(|(last, _)| *last < rank) {
            return;
        }
        let BinaryRow { id, prompt, completion, label, source, domain, score, original_label, noise, .. } =
            row;
        let example =
            Example { split, id, label, original_label, noise, source, domain, score, prompt, completion };
        rows.insert(rank, example);
        if rows.len() > self.count {
            rows.pop_last();
        }
    }

    /// Returns the rows, by stratum.
    pub(super) fn into_examples(self) -> Vec<Example> {
        self.rows.into_values().flat_map(BTreeMap::into_values).collect()
    }
}
