//! Train/test split by prompt: no prompt is in both splits.

use std::collections::HashSet;

use prospect_core::draw::{Draw, exact_count};

use serde::Serialize;

use crate::{
    Split,
    table::{
        feedback::{Feedback, lowest_ids},
        ids::Id,
    },
};

/// Rule that splits rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitRule {
    /// The splits of the sources.
    Source,
    /// By prompt, for sources without splits.
    ByPrompt {
        /// Fraction of prompts in the test split.
        test_fraction: f64,
    },
}

/// Assigns groups without a split to one, then drops training rows whose prompt is in a test split.
/// Returns the number of dropped rows.
pub(crate) fn assign(feedback: &mut Feedback, rule: &SplitRule, seed: u64) -> u64 {
    if let SplitRule::ByPrompt { test_fraction } = rule {
        by_prompt(feedback, *test_fraction, seed);
    }
    drop_leaks(feedback)
}

fn by_prompt(feedback: &mut Feedback, test_fraction: f64, seed: u64) {
    let prompts = feedback.prompts(|row| row.kept && feedback.group(row).split.is_none());
    let count = exact_count(test_fraction, prompts.len());
    let held_out = lowest_ids(&Draw::new(seed, "split"), &prompts, count);
    for group in feedback.groups.iter_mut().filter(|group| group.split.is_none()) {
        group.split = Some(if held_out.contains(&group.prompt) { Split::Test } else { Split::Train });
    }
}

fn drop_leaks(feedback: &mut Feedback) -> u64 {
    let held_out: HashSet<Id> =
        feedback.prompts(|row| row.kept && feedback.split(row) == Split::Test).into_iter().collect();
    let leaked: Vec<u32> = (0..feedback.rows.len() as u32)
        .filter(|index| {
            let row = &feedback.rows[*index as usize];
            row.kept && feedback.split(row) == Split::Train && held_out.contains(&feedback.group(row).prompt)
        })
        .collect();
    let dropped = leaked.len() as u64;
    feedback.drop_rows(leaked);
    dropped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{distinct_pairs, raw_pair};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_prompt_is_in_both_splits(prompts in proptest::collection::vec(0u8..20, 1..60), fraction in 0.0..=1.0f64, seed: u64) {
            let raw = prompts.iter().enumerate().map(|(n, p)| raw_pair(&p.to_string(), &n.to_string(), "no", None));
            let mut feedback = Feedback::new(raw);
            by_prompt(&mut feedback, fraction, seed);
            let ids = |split| feedback.kept(split).map(|row| feedback.group(row).prompt).collect::<HashSet<_>>();
            let (train, test) = (ids(Split::Train), ids(Split::Test));
            prop_assert!(train.is_disjoint(&test));
            prop_assert_eq!(test.len(), exact_count(fraction, train.len() + test.len()));
        }
    }

    #[test]
    fn training_rows_with_a_test_prompt_are_dropped() {
        let raw = vec![
            raw_pair("a", "yes", "no", Some(Split::Train)),
            raw_pair("b", "yes", "no", Some(Split::Train)),
            raw_pair("a", "maybe", "no", Some(Split::Test)),
        ];
        let mut feedback = Feedback::new(raw);
        assert_eq!(assign(&mut feedback, &SplitRule::Source, 0), 2);
        assert_eq!((feedback.counts(Split::Train).prompts, feedback.counts(Split::Test).pairs), (1, 1));
    }

    #[test]
    fn sources_with_and_without_splits_share_no_prompt() {
        let own = (0..20).map(|n| {
            raw_pair(&format!("p{n}"), "yes", "no", Some(if n < 10 { Split::Test } else { Split::Train }))
        });
        let other = (5..40).map(|n| raw_pair(&format!("p{n}"), "maybe", "no", None));
        let mut feedback = Feedback::new(own.chain(other));
        let dropped = assign(&mut feedback, &SplitRule::ByPrompt { test_fraction: 0.2 }, 3);
        let ids = |split| feedback.kept(split).map(|row| feedback.group(row).prompt).collect::<HashSet<_>>();
        assert!(ids(Split::Train).is_disjoint(&ids(Split::Test)) && dropped > 0);
        // The ten of the source with splits, and a fifth of the 35 prompts of the other; they may
        // share some.
        assert!((10..=17).contains(&ids(Split::Test).len()));
    }

    #[test]
    fn a_smaller_test_split_is_part_of_a_larger_one() {
        let held_out = |fraction| {
            let mut feedback = distinct_pairs(50);
            by_prompt(&mut feedback, fraction, 7);
            feedback.kept(Split::Test).map(|row| row.id).collect::<HashSet<_>>()
        };
        assert!(held_out(0.1).is_subset(&held_out(0.3)));
    }
}
