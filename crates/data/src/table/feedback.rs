//! Feedback on its way through the steps: what is known of every row, without the texts.
//!
//! All that happens to a row is decided here, on some forty bytes a row; the texts stay in the input, which is
//! read a second time to write them (see [`crate::writing`]).

use std::collections::HashSet;

use prospect_core::draw::Draw;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{DataError, Split, SplitCounts, ids::Id, minhash::Signature, noise::Noisy, raw::RawGroup};

mod digest;

use digest::characters;
pub(crate) use digest::{Digest, Measure};

/// A prompt with the rows and pairs about it. Several groups may share a prompt.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) prompt: Id,
    /// The split the source puts it in, where it has splits; then the one that [`crate::split`] decides.
    pub(crate) split: Option<Split>,
    /// Index into [`Feedback::origins`].
    pub(crate) origin: u16,
    /// Characters of the prompt.
    pub(crate) characters: u32,
    /// Its first row; the next group's first row is behind its last.
    pub(crate) first_row: u32,
    /// Its first pair.
    pub(crate) first_pair: u32,
}

/// A judged completion.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "what is known of a row, in few bytes")]
pub(crate) struct Row {
    pub(crate) id: Id,
    /// Not a number if there is none.
    score: f64,
    pub(crate) group: u32,
    /// The (first) pair the row is a side of, or [`NO_PAIR`].
    pair: u32,
    /// Which completion of the group.
    pub(crate) completion: u32,
    /// Characters of the completion.
    pub(crate) characters: u32,
    pub(crate) original_label: bool,
    /// Whether no step has dropped the row.
    pub(crate) kept: bool,
    /// Whether the last message has more than one word.
    pub(crate) several_words: bool,
    /// Whether prompt and completion have more tokens than the recipe allows.
    pub(crate) many_tokens: bool,
    pub(crate) noisy: Noisy,
}

const NO_PAIR: u32 = u32::MAX;

/// Two rows about one prompt, by index.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Pair {
    pub(crate) id: Id,
    pub(crate) chosen: u32,
    pub(crate) rejected: u32,
}

/// All rows of a dataset that is being made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Feedback {
    pub(crate) groups: Vec<Group>,
    pub(crate) rows: Vec<Row>,
    pub(crate) pairs: Vec<Pair>,
    /// What the `source` and the `domain` column of a group say.
    pub(crate) origins: Vec<Origin>,
    /// The signature of each group's prompt, where prompts are compared.
    pub(crate) signatures: Vec<Signature>,
    /// The rows whose completion noise replaces, each with the row it comes from; ordered by row.
    pub(crate) donors: Vec<(u32, u32)>,
}

/// Where a group comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub(crate) source: String,
    pub(crate) domain: String,
}

impl Feedback {
    /// Takes the next group.
    pub(crate) fn add(&mut self, digest: Digest, source: &str, domain: &str) -> Result<(), DataError> {
        let Digest { group, rows, pairs, signature } = digest;
        let origin = self.origin(source, domain)?;
        self.signatures.extend(signature);
        self.extend([Group { origin, ..group }], rows, pairs)
    }

    /// Takes the groups that were found after these.
    pub(crate) fn append(&mut self, next: Self) -> Result<(), DataError> {
        let origins = next
            .origins
            .iter()
            .map(|origin| self.origin(&origin.source, &origin.domain))
            .collect::<Result<Vec<_>, _>>()?;
        self.signatures.extend(next.signatures);
        let groups = next
            .groups
            .into_iter()
            .map(|group| Group { origin: origins[usize::from(group.origin)], ..group });
        self.extend(groups, next.rows, next.pairs)
    }

    /// Takes groups whose indices are counted from their own first group, row and pair.
    fn extend(
        &mut self,
        groups: impl IntoIterator<Item = Group>,
        rows: Vec<Row>,
        pairs: Vec<Pair>,
    ) -> Result<(), DataError> {
        if self.rows.len() + rows.len() >= NO_PAIR as usize {
            return Err(DataError::TooManyRows);
        }
        let [first_group, first_row, first_pair] =
            [self.groups.len(), self.rows.len(), self.pairs.len()].map(|index| index as u32);
        self.groups.extend(groups.into_iter().map(|group| Group {
            first_row: first_row + group.first_row,
            first_pair: first_pair + group.first_pair,
            ..group
        }));
        self.rows.extend(rows.into_iter().map(|row| Row {
            group: first_group + row.group,
            pair: if row.pair == NO_PAIR { NO_PAIR } else { first_pair + row.pair },
            ..row
        }));
        self.pairs.extend(pairs.into_iter().map(|pair| Pair {
            chosen: first_row + pair.chosen,
            rejected: first_row + pair.rejected,
            ..pair
        }));
        Ok(())
    }

    fn origin(&mut self, source: &str, domain: &str) -> Result<u16, DataError> {
        let known = |origin: &Origin| origin.source == source && origin.domain == domain;
        // The group before usually has the same origin, and it is the last one found.
        let index = self.origins.iter().rposition(known).unwrap_or_else(|| {
            self.origins.push(Origin { source: source.to_owned(), domain: domain.to_owned() });
            self.origins.len() - 1
        });
        u16::try_from(index).map_err(|_| DataError::TooManyRows)
    }

    /// The group a row is in.
    pub(crate) fn group(&self, row: &Row) -> &Group {
        &self.groups[row.group as usize]
    }

    /// Where a row comes from.
    pub(crate) fn origin_of(&self, row: &Row) -> &Origin {
        &self.origins[usize::from(self.group(row).origin)]
    }

    /// The split a row is in.
    pub(crate) fn split(&self, row: &Row) -> Split {
        self.group(row).split.unwrap_or(Split::Train)
    }

    /// The pair of which a row is a side.
    pub(crate) fn pair(&self, row: &Row) -> Option<&Pair> {
        self.pairs.get(row.pair as usize)
    }

    /// Names what was judged: the pair that a row is a side of, else the row.
    pub(crate) fn judged(&self, row: &Row) -> Id {
        self.pair(row).map_or(row.id, |pair| pair.id)
    }

    /// The two rows of a pair: chosen, rejected.
    pub(crate) fn sides(&self, pair: &Pair) -> [&Row; 2] {
        [pair.chosen, pair.rejected].map(|index| &self.rows[index as usize])
    }

    /// The rows of a group.
    pub(crate) fn rows_of(&self, group: usize) -> std::ops::Range<usize> {
        let end = self.groups.get(group + 1).map_or(self.rows.len(), |next| next.first_row as usize);
        self.groups[group].first_row as usize..end
    }

    /// The pairs of a group.
    pub(crate) fn pairs_of(&self, group: usize) -> std::ops::Range<usize> {
        let end = self.groups.get(group + 1).map_or(self.pairs.len(), |next| next.first_pair as usize);
        self.groups[group].first_pair as usize..end
    }

    /// The rows of a split that are still there.
    pub(crate) fn kept(&self, split: Split) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.kept && self.split(row) == split)
    }

    /// Whether a group, read again, is the one that was seen under this index.
    pub(crate) fn fits(&self, index: usize, group: &RawGroup) -> bool {
        self.groups[index].characters == characters(&group.prompt)
            && self.rows[self.rows_of(index)].iter().all(|row| {
                let completion = group.completions.get(row.completion as usize);
                completion.is_some_and(|completion| row.characters == characters(&completion.messages))
            })
    }

    /// Whether both rows of a pair are still there.
    pub(crate) fn whole(&self, pair: &Pair) -> bool {
        self.sides(pair).iter().all(|row| row.kept)
    }

    /// The pairs of a split whose rows are both still there.
    pub(crate) fn kept_pairs(&self, split: Split) -> impl Iterator<Item = &Pair> {
        self.pairs
            .iter()
            .filter(move |pair| self.whole(pair) && self.split(&self.rows[pair.chosen as usize]) == split)
    }

    /// Whether noise exchanged the sides of a pair: it did if it flipped any of its rows.
    pub(crate) fn swapped(&self, pair: &Pair) -> bool {
        self.sides(pair).iter().any(|row| row.noisy.flipped())
    }

    /// The training rows of one class that are still there, by index.
    pub(crate) fn class(&self, label: bool) -> Vec<u32> {
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

    /// The different prompts among groups that have a row which `wanted` accepts.
    pub(crate) fn prompts(&self, wanted: impl Fn(&Row) -> bool + Sync) -> Vec<Id> {
        let mut prompts: Vec<Id> = (0..self.groups.len())
            .into_par_iter()
            .filter(|group| self.rows[self.rows_of(*group)].iter().any(&wanted))
            .map(|group| self.groups[group].prompt)
            .collect();
        prompts.par_sort_unstable();
        prompts.dedup();
        prompts
    }

    /// What a split holds.
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

impl Row {
    /// The label after noise.
    pub(crate) fn label(&self) -> bool {
        self.original_label != self.noisy.flipped()
    }

    /// The score, where the source gives one; higher is better.
    pub(crate) fn score(&self) -> Option<f64> {
        (!self.score.is_nan()).then_some(self.score)
    }
}

/// The `count` candidates of lowest draw, each given by the id that is drawn for and an index. Nested: a smaller
/// count gives a subset.
pub(crate) fn lowest(draw: &Draw, candidates: &[(Id, u32)], count: usize) -> Vec<u32> {
    let mut ranked: Vec<(u64, u32)> =
        candidates.par_iter().map(|(id, index)| (draw.bits(id.digits().as_ref()), *index)).collect();
    if count < ranked.len() {
        ranked.select_nth_unstable(count);
        ranked.truncate(count);
    }
    ranked.into_iter().map(|(_, index)| index).collect()
}

/// The `count` ids of lowest draw.
pub(crate) fn lowest_ids(draw: &Draw, ids: &[Id], count: usize) -> HashSet<Id> {
    let candidates: Vec<(Id, u32)> = ids.iter().copied().zip(0..).collect();
    lowest(draw, &candidates, count).into_iter().map(|index| ids[index as usize]).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Message, raw::RawCompletion};

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

    impl Feedback {
        /// The rows and pairs of all groups.
        pub(crate) fn new(groups: impl IntoIterator<Item = RawGroup>) -> Self {
            let mut feedback = Self::default();
            for group in groups {
                let digest = Digest::new(&group, &Measure { sign: true, max_tokens: None }).unwrap();
                feedback.add(digest, &group.source, &group.domain).unwrap();
            }
            feedback
        }
    }

    /// As many pairs, all about different prompts.
    pub(crate) fn many(pairs: usize) -> Feedback {
        Feedback::new((0..pairs).map(|n| raw(&format!("p{n}"), "yes", "no", None)))
    }

    #[test]
    fn parts_appended_are_the_whole() {
        let groups = || {
            (0..9).map(|n| RawGroup {
                source: format!("s{}", n % 2).into(),
                ..raw(&format!("p{n}"), "a", "b", None)
            })
        };
        let whole = Feedback::new(groups());
        let mut parts = Feedback::new(groups().take(4));
        parts.append(Feedback::new(groups().skip(4))).unwrap();
        assert_eq!(format!("{whole:?}"), format!("{parts:?}"));
    }

    #[test]
    fn pairs_give_a_row_a_side_and_labels_one_row() {
        let texts = ["best", "middle", "worst", "alone", "unjudged"];
        let labels = [None, None, Some(true), Some(false), None];
        let completions = texts.iter().zip(labels).map(|(text, label)| completion(text, label)).collect();
        let group = RawGroup { completions, pairs: vec![(0, 1), (1, 2)], ..raw("p", "", "", None) };
        let feedback = Feedback::new([raw("other", "a", "b", None), group]);
        let rows: Vec<(&str, bool, bool)> = feedback.rows[feedback.rows_of(1)]
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
        assert_eq!(feedback.pairs_of(1), 1..3);
        assert_eq!(feedback.pair(&feedback.rows[2]).unwrap().id, feedback.pairs[2].id);
    }

    #[test]
    fn a_row_takes_few_bytes() {
        assert!(size_of::<Row>() <= 40 && size_of::<Pair>() <= 16 && size_of::<Group>() <= 32);
    }
}
