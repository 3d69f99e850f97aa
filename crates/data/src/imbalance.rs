//! Unbalanced feedback: only part of a class is kept.
//!
//! The fraction is of the training rows of that class; HALOs counts generations instead, so that its 0.5 removes
//! nothing. Rows are drawn one by one, not as whole pairs: a pair stays in the paired file if both rows stay.

use prospect_core::draw::{Draw, exact_count};
use serde::{Deserialize, Serialize};

use crate::{
    feedback::{Feedback, lowest},
    ids::Id,
};

/// The share of each class of training rows to keep.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Imbalance {
    /// Share of the desirable rows.
    pub keep_desirable: f64,
    /// Share of the undesirable rows.
    pub keep_undesirable: f64,
    /// Seed of which rows stay; the recipe's own if not given. Lets a sweep draw anew while the split stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl Default for Imbalance {
    fn default() -> Self {
        Self { keep_desirable: 1.0, keep_undesirable: 1.0, seed: None }
    }
}

/// What became of the rows of one class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassCounts {
    /// Training rows kept.
    pub kept: u64,
    /// Training rows dropped.
    pub dropped: u64,
}

/// What imbalance kept and dropped, by label before noise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImbalanceCounts {
    /// Desirable rows.
    pub desirable: ClassCounts,
    /// Undesirable rows.
    pub undesirable: ClassCounts,
}

/// Drops training rows until each class has the share that the recipe keeps.
pub(crate) fn thin(feedback: &mut Feedback, imbalance: Imbalance, seed: u64) -> ImbalanceCounts {
    let draw = Draw::new(imbalance.seed.unwrap_or(seed), "keep");
    let mut class = |label, fraction| {
        let rows = feedback.class(label);
        let candidates: Vec<(Id, u32)> =
            rows.iter().map(|index| (feedback.rows[*index as usize].id, *index)).collect();
        let kept = lowest(&draw, &candidates, exact_count(fraction, rows.len()));
        let counts = ClassCounts { kept: kept.len() as u64, dropped: (rows.len() - kept.len()) as u64 };
        feedback.drop_rows(rows);
        for row in kept {
            feedback.rows[row as usize].kept = true;
        }
        counts
    };
    ImbalanceCounts {
        desirable: class(true, imbalance.keep_desirable),
        undesirable: class(false, imbalance.keep_undesirable),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{Split, feedback::tests::many};
    use proptest::prelude::*;

    fn ids(keep_desirable: f64, keep_undesirable: f64, seed: u64) -> (ImbalanceCounts, HashSet<String>) {
        let mut feedback = many(97);
        let counts = thin(&mut feedback, Imbalance { keep_desirable, keep_undesirable, seed: None }, seed);
        (counts, feedback.kept(Split::Train).map(|row| row.id.to_string()).collect())
    }

    proptest! {
        #[test]
        fn counts_are_exact_and_smaller_shares_are_subsets(a in 0.0..=1.0f64, b in 0.0..=1.0f64, seed: u64) {
            let (low, high) = (a.min(b), a.max(b));
            let ((counts, small), (_, large)) = (ids(low, 1.0, seed), ids(high, 1.0, seed));
            prop_assert!(small.is_subset(&large));
            let kept = prospect_core::draw::exact_count(low, 97) as u64;
            prop_assert_eq!(counts.desirable, ClassCounts { kept, dropped: 97 - kept });
            prop_assert_eq!(counts.undesirable, ClassCounts { kept: 97, dropped: 0 });
            prop_assert_eq!(small.len() as u64, kept + 97);
        }
    }

    #[test]
    fn a_tenth_is_part_of_a_half() {
        let ((small_counts, small), (large_counts, large)) = (ids(0.1, 0.1, 3), ids(0.5, 0.5, 3));
        assert!(small.is_subset(&large));
        assert_eq!((small_counts.desirable.kept, large_counts.desirable.kept), (10, 49));
    }
}
