//! Example rows, drawn by hash: reproducible, and from anywhere in the files.

use std::collections::BTreeMap;

use prospect_core::draw::Draw;
use prospect_data::{BinaryRow, Message, Split};
use serde::Serialize;

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

impl Example {
    /// Makes an example of a row.
    pub(super) fn new(split: Split, row: BinaryRow) -> Self {
        let BinaryRow { id, prompt, completion, label, source, domain, score, original_label, noise, .. } =
            row;
        Self { split, id, label, original_label, noise, source, domain, score, prompt, completion }
    }
}

/// Rows that are sampled together, in the order of the summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Stratum {
    split: Split,
    is_corrupted: bool,
    is_undesirable: bool,
}

/// A row without its texts.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowKey {
    pub(super) split: Split,
    pub(super) label: bool,
    /// True if noise changed the row.
    pub(super) is_corrupted: bool,
    /// Position in the file of its split.
    pub(super) position: usize,
}

/// The rows with the lowest draws in each stratum.
pub(super) struct ExampleSampler {
    count: usize,
    draw: Draw,
    rows: BTreeMap<Stratum, BTreeMap<(u64, u64), RowKey>>,
    seen: u64,
}

impl ExampleSampler {
    /// Collects `count` rows of each stratum.
    pub(super) fn new(count: usize) -> Self {
        Self { count, draw: Draw::new(0, "examples to look at"), rows: BTreeMap::new(), seen: 0 }
    }

    /// Adds the row with this id if its draw is low enough.
    pub(super) fn offer(&mut self, id: &str, row: RowKey) {
        self.seen += 1;
        let rank = (self.draw.bits(id), self.seen);
        let RowKey { split, label, is_corrupted, .. } = row;
        let rows = self.rows.entry(Stratum { split, is_corrupted, is_undesirable: !label }).or_default();
        rows.insert(rank, row);
        if rows.len() > self.count {
            rows.pop_last();
        }
    }

    /// Returns the rows, by stratum.
    pub(super) fn into_keys(self) -> Vec<RowKey> {
        self.rows.into_values().flat_map(BTreeMap::into_values).collect()
    }
}
