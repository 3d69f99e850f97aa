//! Train/test split by prompt, group or time: no prompt is in both splits.
//!
//! | split by | held out | unit of `test_fraction` |
//! |---|---|---|
//! | prompt | prompts, drawn by seed | prompts |
//! | group | groups, drawn by seed; also prompts whose rows have no group | groups, and such prompts |
//! | time | the latest records; ties are drawn by seed | records with a time |
//!
//! If a prompt ends up on both sides, its training rows are dropped.

use std::{cmp::Reverse, collections::HashSet};

use prospect_core::draw::{Draw, exact_count};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    DataError, Split,
    table::{
        feedback::{Feedback, FeedbackRow, lowest_ids},
        ids::Id,
    },
};

/// Unit that is held out as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SplitBy {
    /// Prompts.
    #[default]
    Prompt,
    /// Groups (`columns.group`): users or conversations. Rows without a group are split by prompt.
    Group,
    /// The latest records (`columns.time`). Records without a time are in the training split.
    Time,
}

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
    /// By group, for sources without splits.
    ByGroup {
        /// Fraction of groups in the test split.
        test_fraction: f64,
    },
    /// By time, for sources without splits.
    ByTime {
        /// Fraction of records in the test split.
        test_fraction: f64,
    },
}

/// Training rows dropped by the split.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LeakedRows {
    /// Rows whose prompt is in the test split.
    pub(crate) by_prompt: u64,
    /// Rows whose group is in the test split.
    pub(crate) by_group: u64,
}

impl SplitRule {
    /// Returns the rule for sources without splits.
    pub(crate) fn new(by: SplitBy, test_fraction: f64) -> Self {
        match by {
            SplitBy::Prompt => Self::ByPrompt { test_fraction },
            SplitBy::Group => Self::ByGroup { test_fraction },
            SplitBy::Time => Self::ByTime { test_fraction },
        }
    }
}

/// Assigns groups without a split to one, then drops training rows whose prompt is in the test
/// split and, in a split by group, those whose group is.
pub(crate) fn assign(feedback: &mut Feedback, rule: &SplitRule, seed: u64) -> Result<LeakedRows, DataError> {
    let mut leaked = LeakedRows::default();
    match *rule {
        SplitRule::Source => {}
        SplitRule::ByPrompt { test_fraction } => by_prompt(feedback, test_fraction, seed),
        SplitRule::ByGroup { test_fraction } => {
            by_group(feedback, test_fraction, seed)?;
            // A source with splits of its own may have a group on both sides.
            leaked.by_group = drop_leaks(feedback, |feedback, index| feedback.log(index).group);
        }
        SplitRule::ByTime { test_fraction } => by_time(feedback, test_fraction, seed)?,
    }
    leaked.by_prompt = drop_leaks(feedback, |feedback, index| Some(feedback.groups[index].prompt));
    Ok(leaked)
}

fn by_prompt(feedback: &mut Feedback, test_fraction: f64, seed: u64) {
    let prompts = feedback.prompts(|row| row.kept && feedback.group(row).split.is_none());
    let held_out = draw(&prompts, test_fraction, seed);
    for group in feedback.groups.iter_mut().filter(|group| group.split.is_none()) {
        group.split = Some(if held_out.contains(&group.prompt) { Split::Test } else { Split::Train });
    }
}

fn by_group(feedback: &mut Feedback, test_fraction: f64, seed: u64) -> Result<(), DataError> {
    if !feedback.has_groups() {
        return Err(DataError::NotEnough(
            "`split.by: group` needs groups, but no row has one; check `columns.group` of the source"
                .to_owned(),
        ));
    }
    let open = open_groups(feedback);
    let mut names: Vec<Id> = open.iter().filter_map(|index| feedback.log(*index).group).collect();
    names.par_sort_unstable();
    names.dedup();
    let held_out = draw(&names, test_fraction, seed);
    for index in 0..feedback.groups.len() {
        let (log, group) = (feedback.log(index), &mut feedback.groups[index]);
        if let (None, Some(name)) = (group.split, log.group) {
            group.split = Some(if held_out.contains(&name) { Split::Test } else { Split::Train });
        }
    }
    by_prompt(feedback, test_fraction, seed);
    Ok(())
}

fn by_time(feedback: &mut Feedback, test_fraction: f64, seed: u64) -> Result<(), DataError> {
    if !feedback.has_times() {
        return Err(DataError::NotEnough(
            "`split.by: time` needs times, but no row has one; check `columns.time` of the source".to_owned(),
        ));
    }
    let ties = Draw::new(seed, "split ties");
    let bits = |id: Id| ties.bits(id.digits().as_ref());
    // Records of one prompt and time stay together as far as the count allows.
    let mut latest: Vec<_> = open_groups(feedback)
        .into_par_iter()
        .filter_map(|index| {
            let row = feedback.rows[feedback.group_rows(index)].first()?;
            let prompt = feedback.groups[index].prompt;
            Some((Reverse(feedback.log(index).time?), bits(prompt), bits(row.id), index))
        })
        .collect();
    latest.par_sort_unstable();
    for (.., index) in latest.iter().take(exact_count(test_fraction, latest.len())) {
        feedback.groups[*index].split = Some(Split::Test);
    }
    for group in &mut feedback.groups {
        group.split.get_or_insert(Split::Train);
    }
    Ok(())
}

/// Returns the prompt groups with a kept row that have no split, by index.
fn open_groups(feedback: &Feedback) -> Vec<usize> {
    (0..feedback.groups.len())
        .into_par_iter()
        .filter(|index| feedback.groups[*index].split.is_none())
        .filter(|index| feedback.rows[feedback.group_rows(*index)].iter().any(|row| row.kept))
        .collect()
}

fn draw(ids: &[Id], test_fraction: f64, seed: u64) -> HashSet<Id> {
    lowest_ids(&Draw::new(seed, "split"), ids, exact_count(test_fraction, ids.len()))
}

/// Drops training rows whose prompt group has the same key as one of the test split. Returns their
/// number.
fn drop_leaks(feedback: &mut Feedback, key: impl Fn(&Feedback, usize) -> Option<Id>) -> u64 {
    let key = |row: &FeedbackRow| key(feedback, row.group as usize);
    let held_out: HashSet<Id> = feedback.kept(Split::Test).filter_map(&key).collect();
    let leaked: Vec<u32> = (0..)
        .zip(&feedback.rows)
        .filter(|(_, row)| row.kept && feedback.split(row) == Split::Train)
        .filter(|(_, row)| key(row).is_some_and(|key| held_out.contains(&key)))
        .map(|(index, _)| index)
        .collect();
    let dropped = leaked.len() as u64;
    feedback.drop_rows(leaked);
    dropped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixtures::{distinct_pairs, raw_pair},
        ingest::raw::RawGroup,
        table::{group_salt::GroupSalt, log_entry::LogEntry, timestamp::Timestamp},
    };
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
        assert_eq!(assign(&mut feedback, &SplitRule::Source, 0).unwrap().by_prompt, 2);
        assert_eq!((feedback.counts(Split::Train).prompts, feedback.counts(Split::Test).pairs), (1, 1));
    }

    #[test]
    fn sources_with_and_without_splits_share_no_prompt() {
        let own = (0..20).map(|n| {
            raw_pair(&format!("p{n}"), "yes", "no", Some(if n < 10 { Split::Test } else { Split::Train }))
        });
        let other = (5..40).map(|n| raw_pair(&format!("p{n}"), "maybe", "no", None));
        let mut feedback = Feedback::new(own.chain(other));
        let dropped = assign(&mut feedback, &SplitRule::new(SplitBy::Prompt, 0.2), 3).unwrap().by_prompt;
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

    /// A pair of a group (none if empty) at a time in seconds.
    fn logged(prompt: &str, text: &str, group: &str, time: Option<u32>) -> RawGroup {
        let log = LogEntry {
            group: (!group.is_empty()).then(|| GroupSalt::from_seed(0).hash(group)),
            time: time.and_then(|time| Timestamp::from_number(f64::from(time))),
        };
        RawGroup { log, ..raw_pair(prompt, text, "no", None) }
    }

    /// Prompts of the kept pairs of a split.
    fn prompts(feedback: &Feedback, split: Split) -> HashSet<Id> {
        feedback.kept(split).map(|row| feedback.group(row).prompt).collect()
    }

    proptest! {
        #[test]
        fn groups_and_prompts_are_never_on_both_sides(
            rows in proptest::collection::vec((0u8..20, 0u8..8), 1..60), fraction in 0.0..=1.0f64, seed: u64,
        ) {
            // Group 0 stands for no group.
            let raw = rows.iter().enumerate().map(|(n, (prompt, group))| {
                let group = if *group == 0 { String::new() } else { group.to_string() };
                logged(&prompt.to_string(), &n.to_string(), &group, None)
            });
            let mut feedback = Feedback::new(raw);
            let all = feedback.rows.len() as u64;
            let groups: HashSet<u8> = rows.iter().map(|(_, group)| *group).filter(|group| *group > 0).collect();
            let split = assign(&mut feedback, &SplitRule::new(SplitBy::Group, fraction), seed);
            if groups.is_empty() {
                prop_assert!(split.is_err());
                return Ok(());
            }
            let names = |split| -> HashSet<Id> {
                feedback.kept(split).filter_map(|row| feedback.log(row.group as usize).group).collect()
            };
            prop_assert!(names(Split::Train).is_disjoint(&names(Split::Test)));
            prop_assert!(prompts(&feedback, Split::Train).is_disjoint(&prompts(&feedback, Split::Test)));
            prop_assert_eq!(names(Split::Test).len(), exact_count(fraction, groups.len()));
            let leaked = split.unwrap();
            let kept = Split::ALL.map(|split| feedback.kept(split).count() as u64);
            prop_assert_eq!(kept.iter().sum::<u64>() + leaked.by_prompt, all);
            prop_assert_eq!(leaked.by_group, 0);
        }

        #[test]
        fn the_latest_records_are_held_out_and_no_prompt_is_on_both_sides(
            rows in proptest::collection::vec((0u8..30, 0u32..9), 1..60), fraction in 0.0..=1.0f64, seed: u64,
        ) {
            // Time 0 stands for no time.
            let raw = rows.iter().enumerate().map(|(n, (prompt, time))| {
                logged(&prompt.to_string(), &n.to_string(), "", (*time > 0).then_some(*time))
            });
            let mut feedback = Feedback::new(raw);
            let timed = rows.iter().filter(|(_, time)| *time > 0).count();
            let split = assign(&mut feedback, &SplitRule::new(SplitBy::Time, fraction), seed);
            if timed == 0 {
                prop_assert!(split.is_err());
                return Ok(());
            }
            prop_assert_eq!(feedback.kept_pairs(Split::Test).count(), exact_count(fraction, timed));
            prop_assert!(prompts(&feedback, Split::Train).is_disjoint(&prompts(&feedback, Split::Test)));
            let times = |split| feedback.kept(split).filter_map(|row| feedback.time(row));
            if let (Some(last), Some(first)) = (times(Split::Train).max(), times(Split::Test).min()) {
                prop_assert!(last <= first);
            }
        }
    }

    #[test]
    fn rows_without_a_group_are_split_by_prompt() {
        let raw = (0..20).map(|n| logged(&format!("p{n}"), "yes", if n < 10 { "" } else { "ann" }, None));
        let mut feedback = Feedback::new(raw);
        assign(&mut feedback, &SplitRule::new(SplitBy::Group, 0.3), 1).unwrap();
        // A third of one group is none; 3 of 10 prompts.
        assert_eq!(feedback.kept_pairs(Split::Test).count(), 3);
        assert!(feedback.kept(Split::Test).all(|row| feedback.log(row.group as usize).group.is_none()));
    }

    #[test]
    fn a_group_in_the_test_split_of_a_source_is_not_trained_on() {
        let own =
            |n: u8, split| RawGroup { split: Some(split), ..logged(&n.to_string(), "yes", "ann", None) };
        let others = (10..20).map(|n| logged(&n.to_string(), "yes", "bob", None));
        let raw = [own(0, Split::Test), own(1, Split::Train)].into_iter().chain(others);
        let mut feedback = Feedback::new(raw);
        let leaked = assign(&mut feedback, &SplitRule::new(SplitBy::Group, 0.0), 1).unwrap();
        assert_eq!(leaked, LeakedRows { by_prompt: 0, by_group: 2 });
        assert_eq!(feedback.kept_pairs(Split::Train).count(), 10);
    }

    #[test]
    fn a_prompt_that_returns_after_the_cut_is_not_trained_on() {
        let raw = [
            logged("often", "a", "", Some(1)),
            logged("once", "a", "", Some(2)),
            logged("other", "a", "", None),
            logged("often", "b", "", Some(4)),
            logged("new", "a", "", Some(3)),
        ];
        let mut feedback = Feedback::new(raw);
        let leaked = assign(&mut feedback, &SplitRule::new(SplitBy::Time, 0.5), 1).unwrap();
        assert_eq!(leaked.by_prompt, 2);
        let split = |split| {
            feedback
                .kept_pairs(split)
                .map(|pair| feedback.rows[pair.chosen as usize].group)
                .collect::<Vec<_>>()
        };
        assert_eq!((split(Split::Train), split(Split::Test)), (vec![1, 2], vec![3, 4]));
    }

    #[test]
    fn ties_in_time_do_not_depend_on_the_order_of_rows() {
        let held_out = |order: &mut dyn Iterator<Item = u32>| {
            let raw = order.map(|n| logged(&format!("p{n}"), "yes", "", Some(7))).collect::<Vec<_>>();
            let mut feedback = Feedback::new(raw);
            assign(&mut feedback, &SplitRule::new(SplitBy::Time, 0.3), 5).unwrap();
            prompts(&feedback, Split::Test)
        };
        let forward = held_out(&mut (0..40));
        assert_eq!(forward.len(), 12);
        assert_eq!(forward, held_out(&mut (0..40).rev()));
    }
}
