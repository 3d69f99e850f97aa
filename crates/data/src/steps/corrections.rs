//! Corrections: judgements that the lists `exclude` and `flip` name, by content hash.
//!
//! A pair is listed by its id: `exclude` drops it, `flip` exchanges its sides. Its two rows follow
//! it if they are in no other pair. A row is listed by its id, and by its label where a completion
//! has several judgements: `exclude` drops it and with it its pairs, `flip` changes its label if it
//! is in no pair.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::{
    DataError,
    config::id_list::{IdList, ListedId},
    table::{
        feedback::{Feedback, FeedbackPair},
        ids::Id,
    },
};

/// Lists of judgements to drop and to flip.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Corrections {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exclude: Option<IdList>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) flip: Option<IdList>,
}

impl Corrections {
    /// Returns true without lists.
    pub(crate) fn is_none(&self) -> bool {
        self.exclude.is_none() && self.flip.is_none()
    }

    /// Fails if both lists name a judgement.
    pub(crate) fn check(&self) -> Result<(), DataError> {
        let (Some(exclude), Some(flip)) = (&self.exclude, &self.flip) else { return Ok(()) };
        match flip.shared_with(exclude) {
            None => Ok(()),
            Some(ListedId { id, .. }) => Err(DataError::Value {
                key: "flip".into(),
                value: id.to_string(),
                message: "the list of `exclude` has it too; remove it from one of them",
            }),
        }
    }
}

/// Pairs and rows that the lists `exclude` and `flip` changed, and entries without effect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorrectionCounts {
    /// Pairs dropped by `exclude`.
    pub excluded_pairs: u64,
    /// Rows dropped by `exclude`: those of its pairs, and those listed themselves.
    pub excluded_rows: u64,
    /// Entries of `exclude` that match no pair or row.
    pub unmatched_exclude: u64,
    /// Pairs whose sides `flip` exchanged.
    pub flipped_pairs: u64,
    /// Rows whose label `flip` changed: those of its pairs, and those listed themselves.
    pub flipped_rows: u64,
    /// Entries of `flip` that match no pair, and no row outside of pairs.
    pub unmatched_flip: u64,
}

/// Applies the lists to the rows as read.
pub(crate) fn apply(feedback: &mut Feedback, corrections: &Corrections) -> CorrectionCounts {
    let mut counts = CorrectionCounts::default();
    if corrections.is_none() {
        return counts;
    }
    let uses = count_uses(feedback);
    if let Some(list) = &corrections.exclude {
        exclude(feedback, list, &uses, &mut counts);
    }
    if let Some(list) = &corrections.flip {
        flip(feedback, list, &uses, &mut counts);
    }
    counts
}

/// Number of pairs that each row is a side of.
fn count_uses(feedback: &Feedback) -> Vec<u32> {
    let mut uses = vec![0; feedback.rows.len()];
    for pair in &feedback.pairs {
        for row in [pair.chosen, pair.rejected] {
            uses[row as usize] += 1;
        }
    }
    uses
}

/// Returns the rows that follow their pair, if neither is in another one.
fn own_rows(pair: &FeedbackPair, uses: &[u32]) -> Option<[u32; 2]> {
    let rows = [pair.chosen, pair.rejected];
    rows.iter().all(|row| uses[*row as usize] == 1).then_some(rows)
}

fn exclude(feedback: &mut Feedback, list: &IdList, uses: &[u32], counts: &mut CorrectionCounts) {
    let mut listed = Listed::new(list);
    let mut dropped: BTreeSet<u32> = BTreeSet::new();
    let mut excluded = Vec::new();
    for pair in &feedback.pairs {
        if listed.has_pair(pair.id) {
            excluded.push(pair.id);
            counts.excluded_pairs += 1;
            dropped.extend(own_rows(pair, uses).into_iter().flatten());
        }
    }
    for (row, index) in feedback.rows.iter().zip(0..) {
        if listed.has_row(row.id, row.original_label) {
            dropped.insert(index);
        }
    }
    counts.excluded_rows = dropped.len() as u64;
    counts.unmatched_exclude = listed.unmatched();
    feedback.drop_rows(dropped);
    feedback.excluded_pairs.extend(excluded);
}

fn flip(feedback: &mut Feedback, list: &IdList, uses: &[u32], counts: &mut CorrectionCounts) {
    let mut listed = Listed::new(list);
    let mut flipped: BTreeSet<u32> = BTreeSet::new();
    let rows = &feedback.rows;
    for pair in &mut feedback.pairs {
        if !listed.has_pair(pair.id) {
            continue;
        }
        // Labels that people gave both sides alike say nothing about their order.
        let [chosen, rejected] = [pair.chosen, pair.rejected].map(|row| rows[row as usize].original_label);
        flipped.extend(own_rows(pair, uses).filter(|_| chosen && !rejected).into_iter().flatten());
        std::mem::swap(&mut pair.chosen, &mut pair.rejected);
        counts.flipped_pairs += 1;
    }
    let lone = rows.iter().zip(0..).filter(|(_, index): &(_, u32)| uses[*index as usize] == 0);
    for (row, index) in lone {
        if listed.has_row(row.id, row.original_label) {
            flipped.insert(index);
        }
    }
    counts.flipped_rows = flipped.len() as u64;
    counts.unmatched_flip = listed.unmatched();
    for row in flipped {
        let row = &mut feedback.rows[row as usize];
        row.original_label = !row.original_label;
    }
}

/// Entries of a list by id, and whether they have matched.
struct Listed(HashMap<Id, Vec<(Option<bool>, bool)>>);

impl Listed {
    fn new(list: &IdList) -> Self {
        let mut by_id: HashMap<Id, Vec<(Option<bool>, bool)>> = HashMap::new();
        for ListedId { id, label } in &list.entries {
            by_id.entry(*id).or_default().push((*label, false));
        }
        Self(by_id)
    }

    /// Returns whether a pair is listed. A pair has no label.
    fn has_pair(&mut self, id: Id) -> bool {
        self.has(id, Option::is_none)
    }

    fn has_row(&mut self, id: Id, label: bool) -> bool {
        self.has(id, |listed| listed.is_none_or(|listed| listed == label))
    }

    fn has(&mut self, id: Id, is_meant: impl Fn(&Option<bool>) -> bool) -> bool {
        let mut any = false;
        for (label, matched) in self.0.get_mut(&id).into_iter().flatten() {
            if is_meant(label) {
                (any, *matched) = (true, true);
            }
        }
        any
    }

    fn unmatched(&self) -> u64 {
        self.0.values().flatten().filter(|(_, matched)| !matched).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use prospect_core::config::Document;

    use crate::{
        BinaryRow, CorrectionCounts, DataError, Manifest, PairRow, PipelineFile, Split, prepare, read_binary,
        read_pairs,
    };

    /// Prepares `rows` of JSON with the lists of ids, and returns rows and pairs by completion.
    fn prepared(
        rows: &[serde_json::Value],
        lists: &[(&str, &[String])],
    ) -> Result<(Manifest, Vec<BinaryRow>, Vec<PairRow>), DataError> {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("rows.jsonl");
        fs_err::write(&input, rows.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")).unwrap();
        let mut recipe = format!("source: {{path: {}}}\nsplit: {{test_fraction: 0}}\n", input.display());
        for (key, ids) in lists {
            let path = folder.path().join(key);
            fs_err::write(&path, ids.join("\n")).unwrap();
            writeln!(recipe, "{key}: {}", path.display()).unwrap();
        }
        let file: PipelineFile = Document::from_text("recipe.yaml", &recipe).unwrap().read().unwrap();
        let pipeline = file.resolve(&|path| Ok(path.into()))?;
        let out = folder.path().join("out");
        let manifest = prepare(&pipeline, &out)?;
        let (mut rows, mut pairs) =
            (read_binary(&out, Split::Train).unwrap(), read_pairs(&out, Split::Train).unwrap());
        rows.sort_by(|a, b| (&a.id, a.label).cmp(&(&b.id, b.label)));
        pairs.sort_by(|a, b| a.pair_id.cmp(&b.pair_id));
        Ok((manifest, rows, pairs))
    }

    fn pair(prompt: &str, chosen: &str, rejected: &str) -> serde_json::Value {
        serde_json::json!({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    }

    fn thumb(prompt: &str, completion: &str, label: bool) -> serde_json::Value {
        serde_json::json!({"prompt": prompt, "completion": completion, "label": label})
    }

    fn text(row: &BinaryRow) -> &str {
        &row.completion[0].content
    }

    #[test]
    fn listed_pairs_go_or_are_exchanged_with_their_rows() {
        let rows = [pair("p", "a", "b"), pair("q", "c", "d"), pair("r", "e", "f")];
        let (_, _, all) = prepared(&rows, &[]).unwrap();
        let id =
            |chosen: &str| all.iter().find(|pair| pair.chosen[0].content == chosen).unwrap().pair_id.clone();
        let lists: [(&str, &[String]); 2] =
            [("exclude", &[id("a"), "0123456789abcdef".to_owned()]), ("flip", &[id("c")])];
        let (manifest, rows, pairs) = prepared(&rows, &lists).unwrap();
        let expected = CorrectionCounts {
            excluded_pairs: 1,
            excluded_rows: 2,
            unmatched_exclude: 1,
            flipped_pairs: 1,
            flipped_rows: 2,
            unmatched_flip: 0,
        };
        assert_eq!(manifest.corrections, expected);
        let mut chosen: Vec<_> = pairs.iter().map(|pair| (&*pair.chosen[0].content, pair.swapped)).collect();
        chosen.sort_unstable();
        assert_eq!(chosen, [("d", false), ("e", false)]);
        // An exchanged pair keeps its id, so that the list still names it.
        assert!(pairs.iter().any(|pair| pair.pair_id == id("c")));
        let mut labels: Vec<_> = rows.iter().map(|row| (text(row), row.label, row.original_label)).collect();
        labels.sort_unstable();
        assert_eq!(labels, [("c", false, false), ("d", true, true), ("e", true, true), ("f", false, false)]);
        let warning = "`exclude`: 1 of its entries matches no pair or row";
        assert!(manifest.warnings.iter().any(|text| text.starts_with(warning)), "{:?}", manifest.warnings);
    }

    #[test]
    fn thumbs_are_listed_by_their_label_where_judgements_contradict() {
        let rows = [thumb("p", "a", true), thumb("p", "a", false), thumb("q", "b", true)];
        let (_, all, _) = prepared(&rows, &[]).unwrap();
        let id = |completion: &str| all.iter().find(|row| text(row) == completion).unwrap().id.clone();
        let (manifest, kept, _) =
            prepared(&rows, &[("exclude", &[format!("{} false", id("a"))]), ("flip", &[id("b")])]).unwrap();
        let mut labels: Vec<_> = kept.iter().map(|row| (text(row), row.label)).collect();
        labels.sort_unstable();
        assert_eq!(labels, [("a", true), ("b", false)]);
        // The excluded row is no contradiction any more.
        assert_eq!(manifest.contradictions.completions, 0);
        assert_eq!((manifest.corrections.excluded_rows, manifest.corrections.flipped_rows), (1, 1));
    }

    #[test]
    fn the_lists_change_the_fingerprint_and_may_not_overlap() {
        let rows = [pair("p", "a", "b"), pair("q", "c", "d")];
        let (before, _, all) = prepared(&rows, &[]).unwrap();
        let ids = [all[0].pair_id.clone()];
        let (after, ..) = prepared(&rows, &[("flip", &ids)]).unwrap();
        assert_ne!(before.fingerprint, after.fingerprint);
        let both = prepared(&rows, &[("flip", &ids), ("exclude", &ids)]).unwrap_err().to_string();
        assert!(both.contains("the list of `exclude` has it too"), "{both}");
        let empty = prepared(&rows, &[("exclude", &[])]).unwrap_err().to_string();
        assert!(empty.contains("lists no id"), "{empty}");
    }
}
