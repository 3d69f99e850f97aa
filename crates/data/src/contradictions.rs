//! One completion of one prompt, judged desirable here and undesirable there.
//!
//! Rankings and repeated comments produce them; HALOs emits both rows unsaid. They are counted always, and kept
//! unless the recipe says otherwise.

use std::{collections::HashMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::feedback::Feedback;

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
    // Desirable and undesirable judgements of each completion.
    let mut votes: HashMap<Arc<str>, [u64; 2]> = HashMap::new();
    for row in &feedback.rows {
        votes.entry(row.id.clone()).or_default()[usize::from(!row.original_label)] += 1;
    }
    votes.retain(|_, [desirable, undesirable]| *desirable > 0 && *undesirable > 0);
    let mut counts = ContradictionCounts {
        completions: votes.len() as u64,
        rows: votes.values().flatten().sum(),
        dropped: 0,
    };
    for row in &mut feedback.rows {
        let Some([desirable, undesirable]) = votes.get(&row.id) else {
            continue;
        };
        row.kept = match policy {
            Contradictions::Keep => true,
            Contradictions::Drop => false,
            Contradictions::Majority if row.original_label => desirable > undesirable,
            Contradictions::Majority => undesirable > desirable,
        };
        counts.dropped += u64::from(!row.kept);
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
            let raw = pairs.iter().chain(&other).map(|(prompt, c, r)| raw(prompt, c, r, None)).collect();
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
