//! A few rows to look at, drawn by hash: the same ones every time, from anywhere in the files.

use std::collections::BTreeMap;

use prospect_core::draw::Draw;
use serde::Serialize;

use crate::{BinaryRow, Message, Split};

/// A row to look at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Example {
    /// The split it is in.
    pub split: Split,
    /// Its name.
    pub id: String,
    /// Its label, after noise.
    pub label: bool,
    /// Its label before noise.
    pub original_label: bool,
    /// What noise did.
    pub noise: String,
    /// The source.
    pub source: String,
    /// The domain within the source.
    pub domain: String,
    /// The source's score of the completion.
    pub score: Option<f64>,
    /// The conversation so far.
    pub prompt: Vec<Message>,
    /// The completion that was judged.
    pub completion: Vec<Message>,
}

/// Rows of one kind: split, whether noise changed them, label.
type Stratum = (Split, bool, bool);

/// The rows of each stratum that draw lowest.
pub(super) struct ExampleSampler {
    count: usize,
    draw: Draw,
    rows: BTreeMap<Stratum, BTreeMap<(u64, u64), Example>>,
    seen: u64,
}

impl ExampleSampler {
    /// Keeps `count` rows of each stratum.
    pub(super) fn new(count: usize) -> Self {
        Self { count, draw: Draw::new(0, "examples to look at"), rows: BTreeMap::new(), seen: 0 }
    }

    /// Looks at a row.
    pub(super) fn offer(&mut self, split: Split, row: BinaryRow) {
        self.seen += 1;
        let rank = (self.draw.bits(&row.id), self.seen);
        let rows = self.rows.entry((split, row.noise != "none", !row.label)).or_default();
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

    /// The rows, by stratum.
    pub(super) fn into_examples(self) -> Vec<Example> {
        self.rows.into_values().flat_map(BTreeMap::into_values).collect()
    }
}
