//! Feedback on its way through the steps: rows that share their texts, and the pairs they came from.

use std::{path::Path, sync::Arc};

use prospect_core::draw::{Draw, exact_count};

use crate::{
    BinaryRow, DataError, Message, PairRow, Split, SplitCounts, ids, parquet_file, reading::RawPair,
};

/// A judged completion.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) id: Arc<str>,
    pub(crate) prompt_id: Arc<str>,
    pub(crate) pair_id: Option<Arc<str>>,
    pub(crate) prompt: Arc<[Message]>,
    pub(crate) completion: Arc<[Message]>,
    pub(crate) score: Option<f64>,
    pub(crate) original_label: bool,
    /// The split the source puts the row in; train where it has no splits, until [`crate::split`] decides.
    pub(crate) split: Split,
    /// Whether no step has dropped the row.
    pub(crate) kept: bool,
    pub(crate) flipped: bool,
}

/// Two rows about one prompt, by index.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) id: Arc<str>,
    pub(crate) chosen: usize,
    pub(crate) rejected: usize,
}

/// All rows of a dataset that is being made.
#[derive(Debug, Clone)]
pub(crate) struct Feedback {
    pub(crate) source: String,
    pub(crate) domain: String,
    pub(crate) rows: Vec<Row>,
    pub(crate) pairs: Vec<Pair>,
}

impl Feedback {
    /// Makes two rows of every pair.
    pub(crate) fn new(source: &str, domain: &str, raw: Vec<RawPair>) -> Self {
        let (mut rows, mut pairs) = (Vec::with_capacity(2 * raw.len()), Vec::with_capacity(raw.len()));
        for pair in raw {
            let prompt_id = ids::prompt_id(&pair.prompt);
            let chosen_id = ids::row_id(&prompt_id, &pair.chosen);
            let rejected_id = ids::row_id(&prompt_id, &pair.rejected);
            let pair_id: Arc<str> = ids::pair_id(&prompt_id, &chosen_id, &rejected_id).into();
            let (prompt_id, prompt): (Arc<str>, Arc<[Message]>) = (prompt_id.into(), pair.prompt.into());
            let row = |id: String, completion: Vec<Message>, score, original_label| Row {
                id: id.into(),
                prompt_id: prompt_id.clone(),
                pair_id: Some(pair_id.clone()),
                prompt: prompt.clone(),
                completion: completion.into(),
                score,
                original_label,
                split: pair.split.unwrap_or(Split::Train),
                kept: true,
                flipped: false,
            };
            pairs.push(Pair { id: pair_id.clone(), chosen: rows.len(), rejected: rows.len() + 1 });
            rows.push(row(chosen_id, pair.chosen, pair.score_chosen, true));
            rows.push(row(rejected_id, pair.rejected, pair.score_rejected, false));
        }
        Self { source: source.to_owned(), domain: domain.to_owned(), rows, pairs }
    }

    /// The rows of a split that are still there.
    pub(crate) fn kept(&self, split: Split) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.kept && row.split == split)
    }

    /// The pairs of a split whose rows are both still there.
    pub(crate) fn kept_pairs(&self, split: Split) -> impl Iterator<Item = &Pair> {
        let there = move |row: &Row| row.kept && row.split == split;
        self.pairs
            .iter()
            .filter(move |pair| there(&self.rows[pair.chosen]) && there(&self.rows[pair.rejected]))
    }

    /// Whether noise exchanged the sides of a pair: it did if it flipped any of its rows.
    pub(crate) fn swapped(&self, pair: &Pair) -> bool {
        self.rows[pair.chosen].flipped || self.rows[pair.rejected].flipped
    }

    /// The training rows of one class that are still there: how many, and the indices of the
    /// `fraction` of them whose `key` draws lowest. A smaller fraction selects a subset.
    pub(crate) fn select(
        &self,
        label: bool,
        fraction: f64,
        draw: &Draw,
        key: impl Fn(&Row) -> &str,
    ) -> (usize, Vec<usize>) {
        let class: Vec<usize> = (0..self.rows.len())
            .filter(|index| {
                let row = &self.rows[*index];
                row.kept && row.split == Split::Train && row.original_label == label
            })
            .collect();
        let keys: Vec<&str> = class.iter().map(|index| key(&self.rows[*index])).collect();
        let marked = draw.lowest(&keys, exact_count(fraction, class.len()));
        let selected =
            class.iter().zip(marked).filter(|(_, marked)| *marked).map(|(index, _)| *index).collect();
        (class.len(), selected)
    }

    /// What a split holds.
    pub(crate) fn counts(&self, split: Split) -> SplitCounts {
        let prompts: std::collections::HashSet<&str> = self.kept(split).map(|row| &*row.prompt_id).collect();
        let rows = self.kept(split).count();
        let n_desirable = self.kept(split).filter(|row| row.label()).count();
        SplitCounts {
            prompts: prompts.len() as u64,
            pairs: self.kept_pairs(split).count() as u64,
            n_desirable: n_desirable as u64,
            n_undesirable: (rows - n_desirable) as u64,
        }
    }

    /// Writes the binary and the paired rows of a split.
    pub(crate) fn write(&self, dataset: &Path, split: Split) -> Result<(), DataError> {
        parquet_file::write(dataset, split, self.kept(split).map(|row| self.binary_row(row)))?;
        parquet_file::write(dataset, split, self.kept_pairs(split).map(|pair| self.pair_row(pair)))
    }

    fn binary_row(&self, row: &Row) -> BinaryRow {
        BinaryRow {
            id: row.id.to_string(),
            prompt_id: row.prompt_id.to_string(),
            pair_id: row.pair_id.as_ref().map(ToString::to_string),
            prompt: row.prompt.to_vec(),
            completion: row.completion.to_vec(),
            label: row.label(),
            source: self.source.clone(),
            domain: self.domain.clone(),
            score: row.score,
            original_label: row.original_label,
            noise: noise_name(row.flipped),
            weight: 1.0,
        }
    }

    fn pair_row(&self, pair: &Pair) -> PairRow {
        let swapped = self.swapped(pair);
        let (mut chosen, mut rejected) = (&self.rows[pair.chosen], &self.rows[pair.rejected]);
        if swapped {
            std::mem::swap(&mut chosen, &mut rejected);
        }
        PairRow {
            pair_id: pair.id.to_string(),
            prompt_id: chosen.prompt_id.to_string(),
            prompt: chosen.prompt.to_vec(),
            chosen: chosen.completion.to_vec(),
            rejected: rejected.completion.to_vec(),
            source: self.source.clone(),
            domain: self.domain.clone(),
            score_chosen: chosen.score,
            score_rejected: rejected.score,
            noise: noise_name(swapped),
            swapped,
        }
    }
}

impl Row {
    /// The label after noise.
    pub(crate) fn label(&self) -> bool {
        self.original_label != self.flipped
    }
}

fn noise_name(flipped: bool) -> String {
    (if flipped { "flip" } else { "none" }).to_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A pair about `prompt`.
    pub(crate) fn raw(prompt: &str, chosen: &str, rejected: &str, split: Option<Split>) -> RawPair {
        RawPair {
            split,
            prompt: vec![Message::user(prompt)],
            chosen: vec![Message::assistant(chosen)],
            rejected: vec![Message::assistant(rejected)],
            score_chosen: None,
            score_rejected: None,
        }
    }

    /// As many pairs, all about different prompts.
    pub(crate) fn many(pairs: usize) -> Feedback {
        Feedback::new("s", "d", (0..pairs).map(|n| raw(&format!("p{n}"), "yes", "no", None)).collect())
    }
}
