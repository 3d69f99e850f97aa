//! Duplicates: repeated judgements, and training prompts that nearly duplicate a test prompt.

use std::collections::{HashMap, HashSet};

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Split,
    table::{
        feedback::Feedback,
        ids::Id,
        minhash::{Banding, Signature},
    },
};

/// Policy for duplicates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Duplicates {
    /// Drop pairs and labelled completions that exactly repeat an earlier one of their split.
    /// Default: false (duplicates are only counted).
    pub drop_exact: bool,
    /// Search for training prompts that nearly duplicate a test prompt. Default: no search.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub near: Option<NearDuplicates>,
}

/// Near duplicates between the splits, by MinHash.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NearDuplicates {
    /// Smallest estimated Jaccard similarity of two prompts, as sets of word trigrams, that makes
    /// them near duplicates. Default: 0.8.
    #[serde(default = "default_threshold")]
    pub threshold: f64,
    /// Drop the training rows with such a prompt. Default: false (they are only counted).
    #[serde(default)]
    pub drop: bool,
}

fn default_threshold() -> f64 {
    0.8
}

/// Duplicates, and the rows dropped because of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DuplicateCounts {
    /// Pairs and labelled completions that repeat an earlier one of their split.
    pub exact: u64,
    /// Rows of these that were dropped.
    pub exact_rows_dropped: u64,
    /// Training prompts that nearly duplicate a test prompt; None without a search.
    pub near_train_prompts: Option<u64>,
    /// Test prompts that they nearly duplicate.
    pub near_test_prompts: Option<u64>,
    /// Training rows dropped as near duplicates.
    pub near_rows_dropped: u64,
}

/// Counts exact duplicates; with `drop_exact`, drops all but the first of each.
pub(crate) fn exact(feedback: &mut Feedback, duplicates: Duplicates) -> DuplicateCounts {
    // Pairs by content (kind 0), rows in no pair by content and label (kinds 1 and 2). Sorted, so
    // that copies are adjacent, the first one first.
    let pairs = feedback.pairs.iter().zip(0..).map(|(pair, index)| {
        let row = &feedback.rows[pair.chosen as usize];
        (pair.id, 0, feedback.group(row).split, index)
    });
    let rows = feedback.rows.iter().zip(0..).filter(|(row, _)| feedback.pair(row).is_none());
    let rows =
        rows.map(|(row, index)| (row.id, 1 + u8::from(row.original_label), feedback.group(row).split, index));
    let mut judgements: Vec<(Id, u8, Option<Split>, u32)> = pairs.chain(rows).collect();
    judgements.par_sort_unstable();
    let same = |one: &(Id, u8, Option<Split>, u32), other: &(Id, u8, Option<Split>, u32)| {
        (one.0, one.1, one.2) == (other.0, other.1, other.2)
    };
    let mut counts = DuplicateCounts::default();
    for (_, kind, _, index) in judgements.chunk_by(same).flat_map(|copies| &copies[1..]) {
        counts.exact += 1;
        let rows = if *kind == 0 {
            let pair = &feedback.pairs[*index as usize];
            vec![pair.chosen, pair.rejected]
        } else {
            vec![*index]
        };
        if duplicates.drop_exact {
            counts.exact_rows_dropped +=
                rows.iter().filter(|row| feedback.rows[**row as usize].kept).count() as u64;
            feedback.drop_rows(rows);
        }
    }
    counts
}

/// Counts training prompts that nearly duplicate a test prompt; with `near.drop`, drops their rows.
pub(crate) fn near(feedback: &mut Feedback, duplicates: Duplicates, counts: &mut DuplicateCounts) {
    let Some(near) = duplicates.near else {
        return;
    };
    let banding = Banding::for_threshold(near.threshold);
    let groups = |split| {
        let mut seen = HashSet::new();
        let mut groups: Vec<usize> = (0..feedback.groups.len()).collect();
        groups.retain(|group| {
            let about = &feedback.groups[*group];
            about.split.unwrap_or(Split::Train) == split
                && feedback.rows[feedback.group_rows(*group)].iter().any(|row| row.kept)
                && seen.insert(about.prompt)
        });
        groups
    };
    let test = groups(Split::Test);
    let mut buckets: HashMap<(usize, u64), Vec<usize>> = HashMap::new();
    for group in &test {
        for bucket in banding.buckets(&feedback.signatures[*group]) {
            buckets.entry(bucket).or_default().push(*group);
        }
    }
    let alike = |one: &Signature, other: &Signature| one.similarity(other) >= near.threshold;
    let found: Vec<(Id, Vec<Id>)> = groups(Split::Train)
        .into_par_iter()
        .filter_map(|group| {
            let signature = &feedback.signatures[group];
            let mut close: Vec<usize> = banding
                .buckets(signature)
                .filter_map(|bucket| buckets.get(&bucket))
                .flatten()
                .copied()
                .collect();
            close.sort_unstable();
            close.dedup();
            close.retain(|other| alike(signature, &feedback.signatures[*other]));
            let prompt = |group: usize| feedback.groups[group].prompt;
            (!close.is_empty()).then(|| (prompt(group), close.into_iter().map(prompt).collect()))
        })
        .collect();
    let train: HashSet<Id> = found.iter().map(|(prompt, _)| *prompt).collect();
    let test: HashSet<Id> = found.iter().flat_map(|(_, close)| close.iter().copied()).collect();
    counts.near_train_prompts = Some(train.len() as u64);
    counts.near_test_prompts = Some(test.len() as u64);
    if near.drop {
        for index in 0..feedback.rows.len() {
            let row = &feedback.rows[index];
            if row.kept && feedback.split(row) == Split::Train && train.contains(&feedback.group(row).prompt)
            {
                counts.near_rows_dropped += 1;
                feedback.rows[index].kept = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Message,
        fixtures::raw_pair,
        ingest::raw::{RawCompletion, RawGroup},
    };

    #[test]
    fn repeated_judgements_go_and_the_first_of_each_stays() {
        let thumb = |label| RawGroup {
            completions: vec![RawCompletion {
                messages: vec![Message::assistant("a")],
                score: None,
                label: Some(label),
            }],
            pairs: Vec::new(),
            ..raw_pair("p", "", "", None)
        };
        let pair = || raw_pair("p", "a", "b", None);
        let groups =
            [pair(), thumb(true), pair(), thumb(true), thumb(false), pair(), raw_pair("p", "b", "a", None)];
        let feedback = Feedback::new(groups.clone());
        let counts = exact(&mut feedback.clone(), Duplicates::default());
        assert_eq!((counts.exact, counts.exact_rows_dropped), (3, 0));
        let mut feedback = feedback;
        let counts = exact(&mut feedback, Duplicates { drop_exact: true, near: None });
        assert_eq!((counts.exact, counts.exact_rows_dropped), (3, 5));
        let kept: Vec<bool> = feedback
            .groups
            .iter()
            .zip(0..)
            .map(|(_, n)| feedback.rows[feedback.group_rows(n)][0].kept)
            .collect();
        assert_eq!(kept, [true, true, false, false, true, false, true]);
        // The same pair in the other split is no duplicate of it.
        let mut other = Feedback::new(Split::ALL.map(|split| RawGroup { split: Some(split), ..pair() }));
        assert_eq!(exact(&mut other, Duplicates { drop_exact: true, near: None }).exact, 0);
    }

    #[test]
    fn near_prompts_of_the_test_split_leave_the_training_split() {
        let text = |n: usize, end: &str| {
            let words: Vec<String> = (0..60).map(|k| format!("w{n}x{k}")).collect();
            format!("{} {end}", words.join(" "))
        };
        let train = (0..20).map(|n| raw_pair(&text(n, "once"), "a", "b", Some(Split::Train)));
        let test = (15..25).map(|n| raw_pair(&text(n, "twice"), "a", "b", Some(Split::Test)));
        let feedback = Feedback::new(train.chain(test));
        let near_with = |drop| {
            let mut feedback = feedback.clone();
            let mut counts = DuplicateCounts::default();
            let near_prompts = Some(NearDuplicates { threshold: 0.8, drop });
            near(&mut feedback, Duplicates { drop_exact: false, near: near_prompts }, &mut counts);
            assert_eq!((counts.near_train_prompts, counts.near_test_prompts), (Some(5), Some(5)));
            (
                counts.near_rows_dropped,
                feedback.kept(Split::Train).count(),
                feedback.kept(Split::Test).count(),
            )
        };
        assert_eq!(near_with(false), (0, 40, 20));
        assert_eq!(near_with(true), (10, 30, 20));
    }
}
