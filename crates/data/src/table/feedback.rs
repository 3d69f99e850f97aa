//! The feedback table: prompt groups, rows and pairs of a dataset in preparation, without their
//! texts.
//!
//! Every step reads and edits this table, at about forty bytes a row. The texts stay in the input,
//! which a second pass reads again to write the dataset.

use std::collections::HashSet;

use prospect_core::{draw::Draw, sample::k_lowest};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    DataError, Split,
    table::{
        SplitCounts, corruption::Corruption, ids::Id, log_entry::LogEntry, minhash::Signature,
        timestamp::Timestamp,
    },
};

/// A prompt with its rows and pairs. Several groups may have the same prompt.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct PromptGroup {
    pub(crate) prompt: Id,
    /// Split that the source assigns, if any; later the split that the split step assigns.
    pub(crate) split: Option<Split>,
    /// Index into [`Feedback::origins`].
    pub(crate) origin: u16,
    /// Length of the prompt in characters.
    pub(crate) characters: u32,
    /// Index of its first row. Its rows end where those of the next group begin.
    pub(crate) first_row: u32,
    /// Index of its first pair.
    pub(crate) first_pair: u32,
}

/// A judged completion.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "a compact record: flags take a byte each")]
pub(crate) struct FeedbackRow {
    pub(crate) id: Id,
    /// NaN if the source gives no score.
    score: f64,
    pub(crate) group: u32,
    /// First pair that the row is a side of, or [`NO_PAIR`].
    pair: u32,
    /// Index of the completion within its group.
    pub(crate) completion: u32,
    /// Length of the completion in characters.
    pub(crate) characters: u32,
    pub(crate) original_label: bool,
    /// False once a step has dropped the row.
    pub(crate) kept: bool,
    /// True if the last message has more than one word.
    pub(crate) several_words: bool,
    /// True if prompt and completion exceed the recipe's limit on tokens.
    pub(crate) many_tokens: bool,
    pub(crate) corruption: Corruption,
}

/// Value of [`FeedbackRow::pair`] for a row that is in no pair.
const NO_PAIR: u32 = u32::MAX;

/// Two rows of one prompt, by index.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct FeedbackPair {
    pub(crate) id: Id,
    pub(crate) chosen: u32,
    pub(crate) rejected: u32,
}

/// A row as a judgement of its completion: row id, label as read, and index.
pub(crate) type Judgement = (Id, bool, u32);

/// All rows of a dataset in preparation.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Feedback {
    pub(crate) groups: Vec<PromptGroup>,
    pub(crate) rows: Vec<FeedbackRow>,
    pub(crate) pairs: Vec<FeedbackPair>,
    /// Distinct values of the `source` and `domain` columns.
    pub(crate) origins: Vec<Origin>,
    /// Group and time of each prompt group; empty if no source gives either.
    pub(crate) logs: Vec<LogEntry>,
    /// MinHash signature of each group's prompt; empty unless near duplicates are searched.
    pub(crate) signatures: Vec<Signature>,
    /// Rows whose completion noise replaces, each with the row that the new completion comes from.
    /// Sorted by row.
    pub(crate) donors: Vec<(u32, u32)>,
    /// Pairs that a list excludes, even if both of their rows are kept.
    #[serde(skip)]
    pub(crate) excluded_pairs: HashSet<Id>,
}

/// Values of the `source` and `domain` columns of a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub(crate) source: String,
    pub(crate) domain: String,
}

/// A prompt group on its way into the table. Indices count from 0 within the group.
#[derive(Debug)]
pub(crate) struct GroupDigest {
    pub(crate) group: PromptGroup,
    pub(crate) rows: Vec<FeedbackRow>,
    pub(crate) pairs: Vec<FeedbackPair>,
    pub(crate) log: LogEntry,
    pub(crate) signature: Option<Signature>,
}

impl Feedback {
    /// Appends a group.
    pub(crate) fn add(&mut self, digest: GroupDigest, source: &str, domain: &str) -> Result<(), DataError> {
        let GroupDigest { group, rows, pairs, log, signature } = digest;
        let origin = self.origin_index(source, domain)?;
        self.signatures.extend(signature);
        if !(self.logs.is_empty() && log.is_empty()) {
            self.logs.resize(self.groups.len(), LogEntry::default());
            self.logs.push(log);
        }
        self.extend([PromptGroup { origin, ..group }], rows, pairs)
    }

    /// Appends another table.
    pub(crate) fn append(&mut self, next: Self) -> Result<(), DataError> {
        let origins = next
            .origins
            .iter()
            .map(|origin| self.origin_index(&origin.source, &origin.domain))
            .collect::<Result<Vec<_>, _>>()?;
        self.signatures.extend(next.signatures);
        if !(self.logs.is_empty() && next.logs.is_empty()) {
            self.logs.resize(self.groups.len(), LogEntry::default());
            self.logs.extend(next.logs);
            self.logs.resize(self.groups.len() + next.groups.len(), LogEntry::default());
        }
        let groups = next
            .groups
            .into_iter()
            .map(|group| PromptGroup { origin: origins[usize::from(group.origin)], ..group });
        self.extend(groups, next.rows, next.pairs)
    }

    /// Appends groups, rows and pairs whose indices count from 0, and shifts these indices.
    fn extend(
        &mut self,
        groups: impl IntoIterator<Item = PromptGroup>,
        rows: Vec<FeedbackRow>,
        pairs: Vec<FeedbackPair>,
    ) -> Result<(), DataError> {
        if self.rows.len() + rows.len() >= NO_PAIR as usize {
            return Err(DataError::TooManyRows);
        }
        let [first_group, first_row, first_pair] =
            [self.groups.len(), self.rows.len(), self.pairs.len()].map(|index| index as u32);
        self.groups.extend(groups.into_iter().map(|group| PromptGroup {
            first_row: first_row + group.first_row,
            first_pair: first_pair + group.first_pair,
            ..group
        }));
        self.rows.extend(rows.into_iter().map(|row| FeedbackRow {
            group: first_group + row.group,
            pair: if row.pair == NO_PAIR { NO_PAIR } else { first_pair + row.pair },
            ..row
        }));
        self.pairs.extend(pairs.into_iter().map(|pair| FeedbackPair {
            chosen: first_row + pair.chosen,
            rejected: first_row + pair.rejected,
            ..pair
        }));
        Ok(())
    }

    fn origin_index(&mut self, source: &str, domain: &str) -> Result<u16, DataError> {
        let known = |origin: &Origin| origin.source == source && origin.domain == domain;
        // Searched from the end: consecutive groups usually share their origin.
        let index = self.origins.iter().rposition(known).unwrap_or_else(|| {
            self.origins.push(Origin { source: source.to_owned(), domain: domain.to_owned() });
            self.origins.len() - 1
        });
        u16::try_from(index).map_err(|_| DataError::TooManyRows)
    }

    /// Returns the kept rows as judgements, sorted: those of a completion are adjacent, undesirable
    /// ones first.
    pub(crate) fn judgements(&self) -> Vec<Judgement> {
        let kept = self.rows.iter().zip(0..).filter(|(row, _)| row.kept);
        let mut judgements: Vec<Judgement> =
            kept.map(|(row, index)| (row.id, row.original_label, index)).collect();
        judgements.par_sort_unstable();
        judgements
    }

    /// Returns the group of a row.
    pub(crate) fn group(&self, row: &FeedbackRow) -> &PromptGroup {
        &self.groups[row.group as usize]
    }

    /// Returns the source and domain of a row.
    pub(crate) fn origin(&self, row: &FeedbackRow) -> &Origin {
        &self.origins[usize::from(self.group(row).origin)]
    }

    /// Returns the group and time of a prompt group, by index.
    pub(crate) fn log(&self, group: usize) -> LogEntry {
        self.logs.get(group).copied().unwrap_or_default()
    }

    /// Returns the time of a row, if the source gives it.
    pub(crate) fn time(&self, row: &FeedbackRow) -> Option<Timestamp> {
        self.log(row.group as usize).time
    }

    /// Returns whether any source gives groups.
    pub(crate) fn has_groups(&self) -> bool {
        self.logs.iter().any(|log| log.group.is_some())
    }

    /// Returns whether any source gives times.
    pub(crate) fn has_times(&self) -> bool {
        self.logs.iter().any(|log| log.time.is_some())
    }

    /// Returns the split of a row; training if none has been assigned.
    pub(crate) fn split(&self, row: &FeedbackRow) -> Split {
        self.group(row).split.unwrap_or(Split::Train)
    }

    /// Returns the first pair that a row is a side of.
    pub(crate) fn pair(&self, row: &FeedbackRow) -> Option<&FeedbackPair> {
        self.pairs.get(row.pair as usize)
    }

    /// Returns the id of the judgement behind a row: its pair's id, or its own if it is in no pair.
    pub(crate) fn judgement_id(&self, row: &FeedbackRow) -> Id {
        self.pair(row).map_or(row.id, |pair| pair.id)
    }

    /// Returns the two rows of a pair: chosen, rejected.
    pub(crate) fn sides(&self, pair: &FeedbackPair) -> [&FeedbackRow; 2] {
        [pair.chosen, pair.rejected].map(|index| &self.rows[index as usize])
    }

    /// Returns the row indices of a group.
    pub(crate) fn group_rows(&self, group: usize) -> std::ops::Range<usize> {
        let end = self.groups.get(group + 1).map_or(self.rows.len(), |next| next.first_row as usize);
        self.groups[group].first_row as usize..end
    }

    /// Returns the pair indices of a group.
    pub(crate) fn group_pairs(&self, group: usize) -> std::ops::Range<usize> {
        let end = self.groups.get(group + 1).map_or(self.pairs.len(), |next| next.first_pair as usize);
        self.groups[group].first_pair as usize..end
    }

    /// Iterates over the kept rows of a split.
    pub(crate) fn kept(&self, split: Split) -> impl Iterator<Item = &FeedbackRow> {
        self.rows.iter().filter(move |row| row.kept && self.split(row) == split)
    }

    /// Returns whether a pair and both of its rows are kept.
    pub(crate) fn is_whole(&self, pair: &FeedbackPair) -> bool {
        self.sides(pair).iter().all(|row| row.kept) && !self.excluded_pairs.contains(&pair.id)
    }

    /// Iterates over the pairs of a split that have both rows kept.
    pub(crate) fn kept_pairs(&self, split: Split) -> impl Iterator<Item = &FeedbackPair> {
        self.pairs
            .iter()
            .filter(move |pair| self.is_whole(pair) && self.split(&self.rows[pair.chosen as usize]) == split)
    }

    /// Returns whether noise swapped the sides of a pair: it did if it flipped any of its rows.
    pub(crate) fn is_swapped(&self, pair: &FeedbackPair) -> bool {
        self.sides(pair).iter().any(|row| row.corruption.is_flipped())
    }

    /// Returns the indices of the kept training rows with an original label.
    pub(crate) fn training_class(&self, label: bool) -> Vec<u32> {
        (0..self.rows.len() as u32)
            .into_par_iter()
            .filter(|index| {
                let row = &self.rows[*index as usize];
                row.kept && row.original_label == label && self.split(row) == Split::Train
            })
            .collect()
    }

    /// Drops rows, by index.
    pub(crate) fn drop_rows(&mut self, rows: impl IntoIterator<Item = u32>) {
        for row in rows {
            self.rows[row as usize].kept = false;
        }
    }

    /// Returns the distinct prompts of the groups with a row that `wanted` accepts, sorted.
    pub(crate) fn prompts(&self, wanted: impl Fn(&FeedbackRow) -> bool + Sync) -> Vec<Id> {
        let mut prompts: Vec<Id> = (0..self.groups.len())
            .into_par_iter()
            .filter(|group| self.rows[self.group_rows(*group)].iter().any(&wanted))
            .map(|group| self.groups[group].prompt)
            .collect();
        prompts.par_sort_unstable();
        prompts.dedup();
        prompts
    }

    /// Counts the kept prompts, rows and pairs of a split.
    pub(crate) fn counts(&self, split: Split) -> SplitCounts {
        let rows = self.kept(split).count();
        let n_desirable = self.kept(split).filter(|row| row.label()).count();
        SplitCounts {
            prompts: self.prompts(|row| row.kept && self.split(row) == split).len() as u64,
            pairs: self.kept_pairs(split).count() as u64,
            n_desirable: n_desirable as u64,
            n_undesirable: (rows - n_desirable) as u64,
        }
    }
}

/// Measurements of a completion from which its rows are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CompletionDigest {
    pub(crate) id: Id,
    pub(crate) score: Option<f64>,
    pub(crate) completion: u32,
    pub(crate) characters: u32,
    pub(crate) several_words: bool,
    pub(crate) many_tokens: bool,
}

impl FeedbackRow {
    /// Makes a kept, uncorrupted row of group 0.
    pub(crate) fn new(completion: CompletionDigest, original_label: bool, pair: Option<u32>) -> Self {
        let CompletionDigest { id, score, completion, characters, several_words, many_tokens } = completion;
        Self {
            id,
            score: score.unwrap_or(f64::NAN),
            group: 0,
            pair: pair.unwrap_or(NO_PAIR),
            completion,
            characters,
            original_label,
            kept: true,
            several_words,
            many_tokens,
            corruption: Corruption::default(),
        }
    }

    /// Returns the label after noise.
    pub(crate) fn label(&self) -> bool {
        self.original_label != self.corruption.is_flipped()
    }

    /// Returns the score if the source gives one; higher is better.
    pub(crate) fn score(&self) -> Option<f64> {
        (!self.score.is_nan()).then_some(self.score)
    }
}

/// Returns the `count` candidates with the lowest draws. A candidate is an index with the id that
/// it draws for. Nested: a smaller count gives a subset.
pub(crate) fn lowest(draw: &Draw, candidates: &[(Id, u32)], count: usize) -> Vec<u32> {
    let ranked: Vec<(u64, u32)> =
        candidates.par_iter().map(|(id, index)| (draw.bits(id.digits().as_ref()), *index)).collect();
    k_lowest(ranked, count).into_iter().map(|(_, index)| index).collect()
}

/// Returns the `count` ids with the lowest draws.
pub(crate) fn lowest_ids(draw: &Draw, ids: &[Id], count: usize) -> HashSet<Id> {
    let candidates: Vec<(Id, u32)> = ids.iter().copied().zip(0..).collect();
    lowest(draw, &candidates, count).into_iter().map(|index| ids[index as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixtures::{completion, raw_pair},
        ingest::raw::RawGroup,
        table::group_salt::GroupSalt,
    };

    #[test]
    fn parts_appended_are_the_whole() {
        // Only the fourth to sixth group have a log entry.
        let groups = || {
            (0..9u64).map(|n| RawGroup {
                source: format!("s{}", n % 2).into(),
                log: match n {
                    3..6 => LogEntry { group: Some(GroupSalt::from_seed(n).hash("a")), time: None },
                    _ => LogEntry::default(),
                },
                ..raw_pair(&format!("p{n}"), "a", "b", None)
            })
        };
        let whole = Feedback::new(groups());
        assert_eq!((whole.logs.len(), whole.has_groups(), whole.has_times()), (9, true, false));
        for first in [2, 4, 7] {
            let mut parts = Feedback::new(groups().take(first));
            parts.append(Feedback::new(groups().skip(first))).unwrap();
            assert_eq!(format!("{whole:?}"), format!("{parts:?}"));
        }
        assert!(Feedback::new(groups().take(3)).logs.is_empty());
    }

    #[test]
    fn pairs_give_a_row_a_side_and_labels_one_row() {
        let texts = ["best", "middle", "worst", "alone", "unjudged"];
        let labels = [None, None, Some(true), Some(false), None];
        let completions = texts.iter().zip(labels).map(|(text, label)| completion(text, label)).collect();
        let group = RawGroup { completions, pairs: vec![(0, 1), (1, 2)], ..raw_pair("p", "", "", None) };
        let feedback = Feedback::new([raw_pair("other", "a", "b", None), group]);
        let rows: Vec<(&str, bool, bool)> = feedback.rows[feedback.group_rows(1)]
            .iter()
            .map(|row| (texts[row.completion as usize], row.original_label, feedback.pair(row).is_some()))
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
        assert_eq!(sides, [(0, 1), (4, 5), (6, 2)]);
        assert_eq!(feedback.group_pairs(1), 1..3);
        assert_eq!(feedback.pair(&feedback.rows[2]).unwrap().id, feedback.pairs[2].id);
    }

    #[test]
    fn a_row_takes_few_bytes() {
        assert!(
            size_of::<FeedbackRow>() <= 40
                && size_of::<FeedbackPair>() <= 16
                && size_of::<PromptGroup>() <= 32
        );
    }
}
