//! Contradictions: completions of a prompt that are desirable in one row and undesirable in
//! another.
//!
//! Rankings and repeated comments cause them (HALOs keeps both rows silently). They are always
//! counted, and kept unless the recipe says otherwise.

use std::collections::HashSet;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::table::{
    feedback::{Feedback, FeedbackPair},
    ids::Id,
};

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
    const ALL: [Self; 3] = [Self::Keep, Self::Drop, Self::Majority];

    /// Returns whether a row with `label` stays, given the rows of its completion by label.
    fn keeps(self, label: bool, desirable: usize, undesirable: usize) -> bool {
        match self {
            Self::Keep => true,
            Self::Drop => false,
            Self::Majority if label => desirable > undesirable,
            Self::Majority => undesirable > desirable,
        }
    }
}

/// Counts contradictory rows and applies the policy.
pub(crate) fn settle(feedback: &mut Feedback, policy: Contradictions) -> ContradictionCounts {
    let mut counts = ContradictionCounts::default();
    let mut dropped = Contradictions::ALL.map(|policy| (policy, Vec::new()));
    // Sorted, so that the rows of a completion are adjacent.
    let mut judgements: Vec<(Id, bool, u32)> =
        feedback.rows.iter().zip(0..).map(|(row, index)| (row.id, row.original_label, index)).collect();
    judgements.par_sort_unstable();
    for run in judgements.chunk_by(|(one, ..), (other, ..)| one == other) {
        let desirable = run.iter().filter(|(_, label, _)| *label).count();
        let undesirable = run.len() - desirable;
        if desirable == 0 || undesirable == 0 {
            continue;
        }
        counts.completions += 1;
        counts.rows += run.len() as u64;
        for (policy, dropped) in &mut dropped {
            let losers = run.iter().filter(|(_, label, _)| !policy.keeps(*label, desirable, undesirable));
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
    use crate::fixtures::raw_pair;

    #[test]
    fn policies_drop_what_they_say() {
        // b is desirable once and undesirable twice, c is desirable once and undesirable once.
        let pairs = [("a", "b"), ("b", "c"), ("c", "d"), ("d2", "b")];
        let pairs: Vec<_> = pairs.iter().map(|(chosen, rejected)| ("p", *chosen, *rejected)).collect();
        let other = [("q", "b", "z")];
        let kept = |policy| {
            let raw = pairs.iter().chain(&other).map(|(prompt, c, r)| raw_pair(prompt, c, r, None));
            let mut feedback = Feedback::new(raw);
            let counts = settle(&mut feedback, policy);
            assert_eq!((counts.completions, counts.rows), (2, 5));
            assert_eq!(counts.dropped as usize, feedback.rows.iter().filter(|row| !row.kept).count());
            counts.dropped
        };
        assert_eq!(kept(Contradictions::Keep), 0);
        assert_eq!(kept(Contradictions::Drop), 5);
        assert_eq!(kept(Contradictions::Majority), 3);
    }
}
