//! One completion of one prompt, judged desirable here and undesirable there.
//!
//! Rankings and repeated comments produce them; HALOs emits both rows unsaid. They are counted always, and kept
//! unless the recipe says otherwise.

use std::collections::HashSet;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::table::{feedback::{Feedback, FeedbackPair}, ids::Id};

/// What to do with the rows of a completion that carries both labels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Contradictions {
    /// Keep every row.
    #[default]
    Keep,
    /// Drop every row.
    Drop,
    /// Keep the rows with the more frequent label; drop all at a tie.
    Majority,
}

/// Contradictory labels found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContradictionCounts {
    /// Completions (of one prompt) with both labels.
    pub completions: u64,
    /// Rows of these completions.
    pub rows: u64,
    /// Rows dropped.
    pub dropped: u64,
    /// What each policy would have dropped.
    pub policies: Vec<PolicyEffect>,
}

/// What a policy drops.
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
    /// Every policy.
    const ALL: [Self; 3] = [Self::Keep, Self::Drop, Self::Majority];

    /// Whether a row with `label` stays, of a completion with so many desirable and undesirable rows.
    fn keeps(self, label: bool, desirable: usize, undesirable: usize) -> bool {
        match self {
            Self::Keep => true,
            Self::Drop => false,
            Self::Majority if label => desirable > undesirable,
            Self::Majority => undesirable > desirable,
        }
    }
}

/// Counts contradictory rows and drops those that the policy drops.
pub(crate) fn settle(feedback: &mut Feedback, policy: Contradictions) -> ContradictionCounts {
    let mut counts = ContradictionCounts::default();
    let mut dropped = Contradictions::ALL.map(|policy| (policy, Vec::new()));
    // The rows of a completion stand together: its judgements are a run.
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
            let gone = run.iter().filter(|(_, label, _)| !policy.keeps(*label, desirable, undesirable));
            dropped.extend(gone.map(|(.., index)| *index));
        }
    }
    counts.policies = dropped.iter().map(|(policy, rows)| effect(feedback, *policy, rows)).collect();
    for (_, rows) in dropped.into_iter().filter(|(other, _)| *other == policy) {
        counts.dropped = rows.len() as u64;
        feedback.drop_rows(rows);
    }
    counts
}

/// What dropping `rows` takes from `feedback`.
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
