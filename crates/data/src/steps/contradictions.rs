//! Contradictions: completions of a prompt that are desirable in one row and undesirable in
//! another.
//!
//! Rankings, repeated comments and several judges of one answer cause them (HALOs keeps both rows
//! silently). They are always counted, and kept unless the recipe says otherwise.

use std::collections::HashSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::table::feedback::{Feedback, FeedbackPair, Judgement};

/// Policy for the rows of a completion with contradictory labels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Contradictions {
    /// Keep every row.
    #[default]
    Keep,
    /// Drop every row.
    Drop,
    /// Keep the rows with the more frequent label; drop all at a tie.
    Majority,
    /// Keep the rows with the label of the latest judgement (`columns.time`); drop all if both
    /// labels are equally late or no row has a time.
    Latest,
}

/// Contradictory labels, and the rows dropped because of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContradictionCounts {
    /// Completions (of one prompt) with both labels.
    pub completions: u64,
    /// Rows of these completions.
    pub rows: u64,
    /// Rows dropped.
    pub dropped: u64,
    /// Effect that each policy has on these rows.
    pub policies: Vec<PolicyEffect>,
}

/// Rows and pairs that a policy drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyEffect {
    /// The policy.
    pub policy: Contradictions,
    /// Desirable rows.
    pub desirable: u64,
    /// Undesirable rows.
    pub undesirable: u64,
    /// Pairs that lose a side.
    pub pairs: u64,
}

impl Contradictions {
    /// All policies.
    const ALL: [Self; 4] = [Self::Keep, Self::Drop, Self::Majority, Self::Latest];

    /// Returns whether a row with `label` stays.
    fn keeps(self, label: bool, votes: &Votes) -> bool {
        let Votes { desirable, undesirable, latest } = *votes;
        match self {
            Self::Keep => true,
            Self::Drop => false,
            Self::Majority if label => desirable > undesirable,
            Self::Majority => undesirable > desirable,
            Self::Latest => latest == Some(label),
        }
    }
}

/// Judgements of one completion.
struct Votes {
    desirable: usize,
    undesirable: usize,
    /// Label of the latest judgement; None if both labels are equally late or no judgement has a
    /// time.
    latest: Option<bool>,
}

impl Votes {
    /// Counts rows: label and index.
    fn new(feedback: &Feedback, rows: impl Iterator<Item = (bool, u32)>) -> Self {
        let mut counts = [0; 2];
        let mut times = [None; 2];
        for (label, row) in rows {
            let side = usize::from(label);
            counts[side] += 1;
            times[side] = times[side].max(feedback.time(&feedback.rows[row as usize]));
        }
        let [undesirable, desirable] = counts;
        let latest = (times[0] != times[1]).then_some(times[1] > times[0]);
        Self { desirable, undesirable, latest }
    }
}

/// Counts contradictory rows and applies the policy. `judgements` are those of the table.
pub(crate) fn settle(
    feedback: &mut Feedback,
    judgements: &[Judgement],
    policy: Contradictions,
) -> ContradictionCounts {
    let mut counts = ContradictionCounts::default();
    let timed = feedback.has_times();
    let policies =
        Contradictions::ALL.into_iter().filter(|policy| timed || *policy != Contradictions::Latest);
    let mut dropped: Vec<(Contradictions, Vec<u32>)> = policies.map(|policy| (policy, Vec::new())).collect();
    for run in judgements.chunk_by(|(one, ..), (other, ..)| one == other) {
        // Sorted by label too.
        if run[0].1 == run[run.len() - 1].1 {
            continue;
        }
        let votes = Votes::new(feedback, run.iter().map(|(_, label, row)| (*label, *row)));
        counts.completions += 1;
        counts.rows += run.len() as u64;
        for (policy, dropped) in &mut dropped {
            let losers = run.iter().filter(|(_, label, _)| !policy.keeps(*label, &votes));
            dropped.extend(losers.map(|(.., index)| *index));
        }
    }
    counts.policies = dropped.iter().map(|(policy, rows)| effect(feedback, *policy, rows)).collect();
    for (_, rows) in dropped.into_iter().filter(|(other, _)| *other == policy) {
        counts.dropped = rows.len() as u64;
        feedback.drop_rows(rows);
    }
    counts
}

/// Counts the rows by label and the pairs that dropping `rows` affects.
fn effect(feedback: &Feedback, policy: Contradictions, rows: &[u32]) -> PolicyEffect {
    let rows: HashSet<u32> = rows.iter().copied().collect();
    let desirable = rows.iter().filter(|row| feedback.rows[**row as usize].original_label).count();
    let loses_a_side = |pair: &&FeedbackPair| rows.contains(&pair.chosen) || rows.contains(&pair.rejected);
    let pairs = if rows.is_empty() { 0 } else { feedback.pairs.iter().filter(loses_a_side).count() };
    PolicyEffect {
        policy,
        desirable: desirable as u64,
        undesirable: (rows.len() - desirable) as u64,
        pairs: pairs as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixtures::{completion, raw_pair},
        ingest::raw::RawGroup,
        table::{log_entry::LogEntry, timestamp::Timestamp},
    };

    fn settle_all(feedback: &mut Feedback, policy: Contradictions) -> ContradictionCounts {
        let judgements = feedback.judgements();
        settle(feedback, &judgements, policy)
    }

    #[test]
    fn policies_drop_what_they_say() {
        // b is desirable once and undesirable twice, c is desirable once and undesirable once.
        let pairs = [("a", "b"), ("b", "c"), ("c", "d"), ("d2", "b")];
        let pairs: Vec<_> = pairs.iter().map(|(chosen, rejected)| ("p", *chosen, *rejected)).collect();
        let other = [("q", "b", "z")];
        let kept = |policy| {
            let raw = pairs.iter().chain(&other).map(|(prompt, c, r)| raw_pair(prompt, c, r, None));
            let mut feedback = Feedback::new(raw);
            let counts = settle_all(&mut feedback, policy);
            assert_eq!((counts.completions, counts.rows), (2, 5));
            assert_eq!(counts.dropped as usize, feedback.rows.iter().filter(|row| !row.kept).count());
            counts.dropped
        };
        assert_eq!(kept(Contradictions::Keep), 0);
        assert_eq!(kept(Contradictions::Drop), 5);
        assert_eq!(kept(Contradictions::Majority), 3);
    }

    /// A thumb at a time in seconds.
    fn thumb(text: &str, label: bool, time: Option<u32>) -> RawGroup {
        let time = time.and_then(|time| Timestamp::from_number(f64::from(time)));
        let completions = vec![completion(text, Some(label))];
        let log = LogEntry { group: None, time };
        RawGroup { log, completions, pairs: Vec::new(), ..raw_pair("p", "", "", None) }
    }

    #[test]
    fn the_latest_judgement_wins_unless_both_are_equally_late() {
        let thumbs = [
            thumb("changed", true, Some(1)),
            thumb("changed", false, Some(3)),
            thumb("changed", true, Some(2)),
            thumb("changed", true, None),
            thumb("tied", true, Some(5)),
            thumb("tied", false, Some(5)),
            thumb("timeless", true, None),
            thumb("timeless", false, None),
            thumb("agreed", true, None),
            thumb("agreed", true, Some(4)),
        ];
        let kept = |policy| {
            let mut feedback = Feedback::new(thumbs.clone());
            let counts = settle_all(&mut feedback, policy);
            assert_eq!((counts.completions, counts.rows, counts.policies.len()), (3, 8, 4));
            (0..).zip(&feedback.rows).filter(|(_, row)| row.kept).map(|(index, _)| index).collect::<Vec<_>>()
        };
        assert_eq!(kept(Contradictions::Latest), [1, 8, 9]);
        assert_eq!(kept(Contradictions::Majority), [0, 2, 3, 8, 9]);
        // Without times, the policy has no effect to show.
        let mut timeless = Feedback::new(thumbs[6..9].to_vec());
        assert_eq!(settle_all(&mut timeless, Contradictions::Keep).policies.len(), 3);
    }
}
