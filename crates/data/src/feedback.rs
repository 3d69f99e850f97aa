//! Feedback on its way through the steps: rows that share their texts, and the pairs they came from.

use std::{path::Path, sync::Arc};

use prospect_core::draw::{Draw, exact_count};

use crate::{
    BinaryRow, DataError, Message, PairRow, Split, SplitCounts, ids, parquet_file,
    raw::{RawCompletion, RawGroup},
};

/// A judged completion.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) id: Arc<str>,
    pub(crate) prompt_id: Arc<str>,
    pub(crate) pair_id: Option<Arc<str>>,
    pub(crate) source: Arc<str>,
    pub(crate) domain: Arc<str>,
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
#[derive(Debug, Clone, Default)]
pub(crate) struct Feedback {
    pub(crate) rows: Vec<Row>,
    pub(crate) pairs: Vec<Pair>,
}

impl Feedback {
    /// Makes the rows and pairs of all groups (see [`RawGroup`]).
    pub(crate) fn new(groups: Vec<RawGroup>) -> Self {
        let mut feedback = Self::default();
        for group in groups {
            feedback.add(group);
        }
        feedback
    }

    fn add(&mut self, group: RawGroup) {
        let prompt_id: Arc<str> = ids::prompt_id(&group.prompt).into();
        let prompt: Arc<[Message]> = group.prompt.into();
        let (mut rows, labels): (Vec<Row>, Vec<Option<bool>>) = group
            .completions
            .into_iter()
            .map(|RawCompletion { messages, score, label }| {
                let row = Row {
                    id: ids::row_id(&prompt_id, &messages).into(),
                    prompt_id: prompt_id.clone(),
                    pair_id: None,
                    source: group.source.clone(),
                    domain: group.domain.clone(),
                    prompt: prompt.clone(),
                    completion: messages.into(),
                    score,
                    original_label: label.unwrap_or_default(),
                    split: group.split.unwrap_or(Split::Train),
                    kept: true,
                    flipped: false,
                };
                (row, label)
            })
            .unzip();
        let pair_ids: Vec<Arc<str>> = group
            .pairs
            .iter()
            .map(|(chosen, rejected)| ids::pair_id(&prompt_id, &rows[*chosen].id, &rows[*rejected].id).into())
            .collect();
        // A row with a label of its own stands once; it belongs to its first pair.
        for ((chosen, rejected), id) in group.pairs.iter().zip(&pair_ids) {
            for side in [*chosen, *rejected] {
                rows[side].pair_id.get_or_insert_with(|| id.clone());
            }
        }
        let labelled: Vec<Option<usize>> = rows
            .iter()
            .zip(&labels)
            .map(|(row, label)| label.is_some().then(|| self.push(row.clone())))
            .collect();
        for ((chosen, rejected), id) in group.pairs.into_iter().zip(pair_ids) {
            let mut side = |index: usize, original_label| {
                labelled[index].unwrap_or_else(|| {
                    self.push(Row { pair_id: Some(id.clone()), original_label, ..rows[index].clone() })
                })
            };
            let (chosen, rejected) = (side(chosen, true), side(rejected, false));
            self.pairs.push(Pair { id, chosen, rejected });
        }
    }

    fn push(&mut self, row: Row) -> usize {
        self.rows.push(row);
        self.rows.len() - 1
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
        parquet_file::write(dataset, split, self.kept(split).map(Row::binary))?;
        parquet_file::write(dataset, split, self.kept_pairs(split).map(|pair| self.pair_row(pair)))
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
            source: chosen.source.to_string(),
            domain: chosen.domain.to_string(),
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

    fn binary(&self) -> BinaryRow {
        BinaryRow {
            id: self.id.to_string(),
            prompt_id: self.prompt_id.to_string(),
            pair_id: self.pair_id.as_ref().map(ToString::to_string),
            prompt: self.prompt.to_vec(),
            completion: self.completion.to_vec(),
            label: self.label(),
            source: self.source.to_string(),
            domain: self.domain.to_string(),
            score: self.score,
            original_label: self.original_label,
            noise: noise_name(self.flipped),
            weight: 1.0,
        }
    }
}

fn noise_name(flipped: bool) -> String {
    (if flipped { "flip" } else { "none" }).to_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A pair about `prompt`.
    pub(crate) fn raw(prompt: &str, chosen: &str, rejected: &str, split: Option<Split>) -> RawGroup {
        RawGroup {
            split,
            source: "s".into(),
            domain: "d".into(),
            prompt: vec![Message::user(prompt)],
            completions: vec![completion(chosen, None), completion(rejected, None)],
            pairs: vec![(0, 1)],
        }
    }

    fn completion(text: &str, label: Option<bool>) -> RawCompletion {
        RawCompletion { messages: vec![Message::assistant(text)], score: None, label }
    }

    /// As many pairs, all about different prompts.
    pub(crate) fn many(pairs: usize) -> Feedback {
        Feedback::new((0..pairs).map(|n| raw(&format!("p{n}"), "yes", "no", None)).collect())
    }

    #[test]
    fn pairs_give_a_row_a_side_and_labels_one_row() {
        let completions = vec![
            completion("best", None),
            completion("middle", None),
            completion("worst", Some(true)),
            completion("alone", Some(false)),
            completion("unjudged", None),
        ];
        let group = RawGroup { completions, pairs: vec![(0, 1), (1, 2)], ..raw("p", "", "", None) };
        let feedback = Feedback::new(vec![group]);
        let rows: Vec<(&str, bool, bool)> = feedback
            .rows
            .iter()
            .map(|row| (&*row.completion[0].content, row.original_label, row.pair_id.is_some()))
            .collect();
        let expected = [
            ("worst", true, true),
            ("alone", false, false),
            ("best", true, true),
            ("middle", false, true),
            ("middle", true, true),
        ];
        assert_eq!(rows, expected);
        let sides: Vec<_> = feedback.pairs.iter().map(|pair| (pair.chosen, pair.rejected)).collect();
        assert_eq!(sides, [(2, 3), (4, 0)]);
        assert_eq!(feedback.rows[0].pair_id.as_ref(), Some(&feedback.pairs[1].id));
    }
}
