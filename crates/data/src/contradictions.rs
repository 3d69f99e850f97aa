//! One completion of one prompt, judged desirable here and undesirable there.
//!
//! Rankings and repeated comments produce them; HALOs emits both rows unsaid. They are counted always, and kept
//! unless the recipe says otherwise.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{feedback::Feedback, ids::Id};

/// What to do with the rows of a completion that carries both labels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// Counts contradictory rows and drops those that the policy drops.
pub(crate) fn settle(feedback: &mut Feedback, policy: Contradictions) -> ContradictionCounts {
    let mut counts = ContradictionCounts::default();
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
        let keep = |label: bool| match policy {
            Contradictions::Keep => true,
            Contradictions::Drop => false,
            Contradictions::Majority if label => desirable > undesirable,
            Contradictions::Majority => undesirable > desirable,
        };
        let dropped = run.iter().filter(|(_, label, _)| !keep(*label));
        counts.dropped += dropped.clone().count() as u64;
        feedback.drop_rows(dropped.map(|(.., index)| *index));
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feedback::tests::raw;

    #[test]
    fn policies_drop_what_they_say() {
        // b is desirable once and undesirable twice, c is desirable once and undesirable once.
        let pairs = [("a", "b"), ("b", "c"), ("c", "d"), ("d2", "b")];
        let pairs: Vec<_> = pairs.iter().map(|(chosen, rejected)| ("p", *chosen, *rejected)).collect();
        let other = [("q", "b", "z")];
        let kept = |policy| {
            let raw = pairs.iter().chain(&other).map(|(prompt, c, r)| raw(prompt, c, r, None));
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
