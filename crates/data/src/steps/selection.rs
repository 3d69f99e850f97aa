//! Selection of part of a source: short conversations, training domains, a number of prompts per
//! split.

use std::collections::BTreeSet;

use prospect_core::draw::Draw;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    DataError, Split,
    table::feedback::{Feedback, FeedbackRow, lowest_ids},
};

/// Subset of the source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Selection {
    /// Largest length of prompt and completion together, in characters. Longer rows are dropped,
    /// and pairs with such a row. Default: no limit.
    pub max_characters: Option<usize>,
    /// The same limit in tokens; needs `tokenizer`, the model recipe with the tokenizer and chat
    /// template. Default: no limit.
    pub max_tokens: Option<usize>,
    /// Domains of the training rows. The test split keeps the other domains, to measure transfer.
    /// Default: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub train_domains: Vec<String>,
    /// Number of training prompts, drawn by seed; a smaller number gives a subset. Default: all.
    pub train_prompts: Option<usize>,
    /// Seed that draws the training prompts. Lets a sweep vary them but not the held-out pairs.
    /// Default: the recipe's seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_seed: Option<u64>,
    /// Number of test prompts, drawn by seed. Default: all.
    pub test_prompts: Option<usize>,
}

/// Rows, pairs and prompts dropped by selection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectionCounts {
    /// Pairs over the length limit.
    pub long_pairs: u64,
    /// Rows in no pair over the length limit.
    pub long_rows: u64,
    /// Training rows of other domains.
    #[serde(default)]
    pub other_domains: u64,
    /// Training prompts beyond the number to keep.
    pub train_prompts: u64,
    /// Test prompts beyond the number to keep.
    pub test_prompts: u64,
}

/// Drops all rows outside the selection. Runs after the split, so that the split does not depend on
/// it.
pub(crate) fn select(
    feedback: &mut Feedback,
    selection: &Selection,
    seed: u64,
) -> Result<SelectionCounts, DataError> {
    let (long_pairs, long_rows) = drop_long(feedback, selection);
    let other_domains = drop_domains(feedback, &selection.train_domains)?;
    let mut keep = |split: Split, count: Option<usize>, seed: u64| {
        count.map_or(0, |count| keep_prompts(feedback, split, count, seed))
    };
    Ok(SelectionCounts {
        long_pairs,
        long_rows,
        other_domains,
        train_prompts: keep(Split::Train, selection.train_prompts, selection.train_seed.unwrap_or(seed)),
        test_prompts: keep(Split::Test, selection.test_prompts, seed),
    })
}

/// Drops training rows of other domains than `wanted`, unless it is empty. Returns their number.
fn drop_domains(feedback: &mut Feedback, wanted: &[String]) -> Result<u64, DataError> {
    if wanted.is_empty() {
        return Ok(0);
    }
    let known: BTreeSet<&str> = feedback.origins.iter().map(|origin| origin.domain.as_str()).collect();
    if let Some(name) = wanted.iter().find(|name| !known.contains(name.as_str())) {
        let known: Vec<_> = known.into_iter().collect();
        return Err(DataError::NotEnough(format!(
            "`select.train_domains` names `{name}`, but the domains of the rows are: {}",
            known.join(", ")
        )));
    }
    let dropped: Vec<u32> = (0..)
        .zip(&feedback.rows)
        .filter(|(_, row)| row.kept && feedback.split(row) == Split::Train)
        .filter(|(_, row)| !wanted.contains(&feedback.origin(row).domain))
        .map(|(index, _)| index)
        .collect();
    let count = dropped.len() as u64;
    feedback.drop_rows(dropped);
    Ok(count)
}

/// Drops rows over the length limits, and pairs with such a row. Returns the number of pairs, and
/// of rows in no pair.
fn drop_long(feedback: &mut Feedback, selection: &Selection) -> (u64, u64) {
    let long = |row: &FeedbackRow| {
        let characters = feedback.group(row).characters as usize + row.characters as usize;
        row.many_tokens || selection.max_characters.is_some_and(|limit| characters > limit)
    };
    let mut dropped = Vec::new();
    let (mut pairs, mut rows) = (0, 0);
    for pair in &feedback.pairs {
        let sides = feedback.sides(pair);
        if sides.into_iter().any(long) {
            pairs += u64::from(sides.into_iter().any(|row| row.kept));
            dropped.extend([pair.chosen, pair.rejected]);
        }
    }
    for (index, row) in (0..).zip(&feedback.rows) {
        if feedback.pair(row).is_none() && long(row) {
            rows += u64::from(row.kept);
            dropped.push(index);
        }
    }
    feedback.drop_rows(dropped);
    (pairs, rows)
}

fn keep_prompts(feedback: &mut Feedback, split: Split, count: usize, seed: u64) -> u64 {
    let prompts = feedback.prompts(|row| row.kept && feedback.split(row) == split);
    let kept = lowest_ids(&Draw::new(seed, "select"), &prompts, count);
    for index in 0..feedback.rows.len() {
        let row = &feedback.rows[index];
        if feedback.split(row) == split && !kept.contains(&feedback.group(row).prompt) {
            feedback.rows[index].kept = false;
        }
    }
    (prompts.len() - kept.len()) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::fixtures::{distinct_pairs, raw_pair};

    fn selected(feedback: &mut Feedback, selection: &Selection) -> SelectionCounts {
        select(feedback, selection, 3).unwrap()
    }

    #[test]
    fn other_domains_are_held_out_but_not_trained_on() {
        let group = |prompt: &str, domain: &str, split| {
            let mut group = raw_pair(prompt, "yes", "no", Some(split));
            group.domain = domain.into();
            group
        };
        let mut feedback = Feedback::new([
            group("p", "law", Split::Train),
            group("q", "art", Split::Train),
            group("r", "art", Split::Test),
        ]);
        let only =
            |domain: &str| Selection { train_domains: vec![domain.to_owned()], ..Selection::default() };
        assert_eq!(selected(&mut feedback, &only("law")).other_domains, 2);
        assert_eq!((feedback.kept(Split::Train).count(), feedback.kept(Split::Test).count()), (2, 2));
        let error = select(&mut feedback, &only("music"), 3).unwrap_err().to_string();
        assert!(error.contains("`music`, but the domains of the rows are: art, law"), "{error}");
    }

    #[test]
    fn smaller_selections_are_subsets_of_exact_size() {
        let prompts = |count| {
            let mut feedback = distinct_pairs(40);
            let counts =
                selected(&mut feedback, &Selection { train_prompts: Some(count), ..Selection::default() });
            let kept: HashSet<_> =
                feedback.kept(Split::Train).map(|row| feedback.group(row).prompt).collect();
            assert_eq!(kept.len() as u64 + counts.train_prompts, distinct(&distinct_pairs(40)));
            kept
        };
        let (small, large) = (prompts(5), prompts(12));
        assert_eq!((small.len(), large.len()), (5, 12));
        assert!(small.is_subset(&large));
    }

    #[test]
    fn another_training_seed_draws_other_training_prompts_only() {
        let kept = |train_seed| {
            let groups = (0..40).map(|n| {
                raw_pair(&format!("p{n}"), "yes", "no", Some(if n < 20 { Split::Test } else { Split::Train }))
            });
            let mut feedback = Feedback::new(groups);
            let (train_prompts, test_prompts) = (Some(8), Some(8));
            let selection = Selection { train_prompts, train_seed, test_prompts, ..Selection::default() };
            selected(&mut feedback, &selection);
            let ids =
                |split| -> Vec<_> { feedback.kept(split).map(|row| feedback.group(row).prompt).collect() };
            (ids(Split::Train), ids(Split::Test))
        };
        let ((train, test), (other_train, other_test)) = (kept(None), kept(Some(9)));
        assert!(train.len() == other_train.len() && train != other_train);
        assert_eq!(test, other_test);
        assert_eq!(kept(Some(3)), kept(None), "the recipe's seed is 3");
    }

    fn distinct(feedback: &Feedback) -> u64 {
        feedback.kept(Split::Train).map(|row| feedback.group(row).prompt).collect::<HashSet<_>>().len() as u64
    }

    #[test]
    fn long_rows_without_a_pair_go_alone() {
        let group = |text: &str| {
            let mut group = raw_pair(text, "yes", "no", None);
            group.pairs.clear();
            group.completions.truncate(1);
            group.completions[0].label = Some(true);
            group
        };
        let mut feedback = Feedback::new([group("p"), group("a long prompt")]);
        let counts = selected(&mut feedback, &Selection { max_characters: Some(8), ..Selection::default() });
        assert_eq!((counts.long_pairs, counts.long_rows, feedback.kept(Split::Train).count()), (0, 1, 1));
    }

    #[test]
    fn long_pairs_go_as_a_whole() {
        let raw = vec![raw_pair("p", "short", "a very long completion", None), raw_pair("q", "a", "b", None)];
        let mut feedback = Feedback::new(raw);
        let counts = selected(&mut feedback, &Selection { max_characters: Some(10), ..Selection::default() });
        assert_eq!(counts.long_pairs, 1);
        assert_eq!(feedback.kept(Split::Train).count(), 2);
    }
}
