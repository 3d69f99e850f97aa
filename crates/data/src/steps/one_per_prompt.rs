//! Unpaired feedback with one row of each training prompt.
//!
//! This is the one-y-per-x setting of the KTO paper: the best completion of one prompt, the worst
//! of the next. HALOs alternates in the order of the data and, for pairs, uses the first pair of a
//! prompt; here the order is drawn by seed, and all pairs of a prompt count.

use std::cmp::Reverse;

use prospect_core::draw::Draw;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Split,
    table::{feedback::Feedback, ids::Id},
};

/// Row of a training prompt that stays.
///
/// The best row is the desirable row with the highest score; among equal scores, and without
/// scores, the one whose completion is desirable in the most rows, minus those in which it is
/// undesirable. The worst row is the reverse. Remaining ties are drawn. A prompt with rows of one
/// label only keeps its best desirable or worst undesirable row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnePerPrompt {
    /// Best and worst alternate over the prompts with both labels, in an order drawn by seed:
    /// balanced classes.
    Alternate,
    /// Best or worst, drawn by prompt: independent of the other prompts.
    Hash,
}

/// Candidate rows of a prompt, by index.
struct Candidates {
    prompt: Id,
    best: Option<u32>,
    worst: Option<u32>,
}

/// Drops all but one row of every training prompt. Returns the number of dropped rows.
pub(crate) fn thin(feedback: &mut Feedback, policy: OnePerPrompt, seed: u64) -> u64 {
    let draw = Draw::new(seed, "one per prompt");
    let bits = |id: Id| draw.bits(id.digits().as_ref());
    // Sorted, so that the rows of a prompt, and of each of its completions, are adjacent.
    let mut rows: Vec<(Id, Id, u32)> = (0..)
        .zip(&feedback.rows)
        .filter(|(_, row)| row.kept && feedback.split(row) == Split::Train)
        .map(|(index, row)| (feedback.group(row).prompt, row.id, index))
        .collect();
    rows.par_sort_unstable();
    let mut prompts: Vec<Candidates> =
        rows.chunk_by(|one, other| one.0 == other.0).map(|rows| candidates(feedback, rows, &bits)).collect();
    prompts.sort_by_cached_key(|candidates| (bits(candidates.prompt), candidates.prompt));
    let mut with_both = 0_u64;
    let mut kept: Vec<u32> = prompts
        .iter()
        .filter_map(|Candidates { prompt, best, worst }| {
            let (Some(best), Some(worst)) = (best, worst) else { return best.or(*worst) };
            with_both += 1;
            let keep_best = match policy {
                OnePerPrompt::Alternate => with_both % 2 == 1,
                OnePerPrompt::Hash => bits(*prompt).is_multiple_of(2),
            };
            Some(if keep_best { *best } else { *worst })
        })
        .collect();
    kept.sort_unstable();
    let dropped = rows.iter().map(|(.., row)| *row).filter(|row| kept.binary_search(row).is_err());
    feedback.drop_rows(dropped);
    (rows.len() - kept.len()) as u64
}

/// Finds the best desirable and the worst undesirable row of a prompt.
fn candidates(feedback: &Feedback, rows: &[(Id, Id, u32)], bits: &impl Fn(Id) -> u64) -> Candidates {
    let (mut best, mut worst) = (None, None);
    for same in rows.chunk_by(|one, other| one.1 == other.1) {
        let rows = || same.iter().map(|(.., index)| (*index, &feedback.rows[*index as usize]));
        let votes: i64 = rows().map(|(_, row)| if row.original_label { 1 } else { -1 }).sum();
        for (index, row) in rows() {
            let tie = (bits(row.id), Reverse(index));
            if row.original_label {
                let score = ordered(row.score().unwrap_or(f64::NEG_INFINITY));
                best = best.max(Some((score, votes, tie)));
            } else {
                let score = ordered(row.score().unwrap_or(f64::INFINITY));
                worst = worst.max(Some((Reverse(score), Reverse(votes), tie)));
            }
        }
    }
    Candidates {
        prompt: rows[0].0,
        best: best.map(|(.., (_, Reverse(index)))| index),
        worst: worst.map(|(.., (_, Reverse(index)))| index),
    }
}

/// Maps a number to an integer with the same order, as in `f64::total_cmp`; -0 is 0.
fn ordered(number: f64) -> i64 {
    let bits = (number + 0.0).to_bits().cast_signed();
    bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        fixtures::{completion, distinct_pairs, raw_pair},
        ingest::raw::{RawCompletion, RawGroup},
    };

    const BOTH: [OnePerPrompt; 2] = [OnePerPrompt::Alternate, OnePerPrompt::Hash];

    /// Ids of the kept training rows.
    fn kept(feedback: &Feedback) -> Vec<(Id, bool)> {
        feedback.kept(Split::Train).map(|row| (row.id, row.original_label)).collect()
    }

    fn thinned(groups: impl IntoIterator<Item = RawGroup>, policy: OnePerPrompt, seed: u64) -> Feedback {
        let mut feedback = Feedback::new(groups);
        let before = feedback.kept(Split::Train).count();
        let dropped = thin(&mut feedback, policy, seed);
        assert_eq!(before - kept(&feedback).len(), dropped as usize);
        feedback
    }

    #[test]
    fn one_row_of_each_prompt_stays_and_alternating_classes_are_balanced() {
        for policy in BOTH {
            // Two pairs of each prompt.
            let groups = (0..401).flat_map(|n| {
                ["no", "never"].map(|text| raw_pair(&format!("p{n}"), &format!("yes to {text}"), text, None))
            });
            let feedback = thinned(groups, policy, 0);
            assert_eq!(kept(&feedback).len(), 401);
            assert_eq!(feedback.kept_pairs(Split::Train).count(), 0);
            let desirable = kept(&feedback).iter().filter(|(_, label)| *label).count();
            let expected = if policy == OnePerPrompt::Alternate { 201..=201 } else { 160..=240 };
            assert!(expected.contains(&desirable), "{desirable}");
        }
    }

    #[test]
    fn test_pairs_stay() {
        let mut feedback = distinct_pairs(10);
        for group in feedback.groups.iter_mut().take(4) {
            group.split = Some(Split::Test);
        }
        assert_eq!(thin(&mut feedback, OnePerPrompt::Alternate, 0), 6);
        assert_eq!(feedback.kept_pairs(Split::Test).count(), 4);
    }

    #[test]
    fn the_best_and_the_worst_go_by_score_and_without_scores_by_votes() {
        let scored = |prompt: &str| {
            let texts = [("top", 9.0), ("high", 7.0), ("low", 2.0), ("bottom", 1.0)];
            let completions = texts.map(|(text, score)| RawCompletion {
                score: Some(score),
                ..completion(text, Some(score > 5.0))
            });
            RawGroup { completions: completions.into(), pairs: Vec::new(), ..raw_pair(prompt, "", "", None) }
        };
        // A ranking: "top" wins twice, "middle" wins and loses, "bottom" loses twice.
        let ranked = |prompt: &str| {
            let completions = ["top", "middle", "bottom"].map(|text| completion(text, None)).into();
            RawGroup { completions, pairs: vec![(1, 2), (0, 1), (0, 2)], ..raw_pair(prompt, "", "", None) }
        };
        for make in [&scored as &dyn Fn(&str) -> RawGroup, &ranked] {
            let groups: Vec<RawGroup> = (0..20).map(|n| make(&format!("p{n}"))).collect();
            let feedback = thinned(groups.clone(), OnePerPrompt::Alternate, 3);
            let mut texts: HashMap<String, u32> = HashMap::new();
            for row in feedback.kept(Split::Train) {
                let text =
                    &groups[row.group as usize].completions[row.completion as usize].messages[0].content;
                *texts.entry(text.clone()).or_default() += 1;
                assert_eq!(text == "top", row.original_label);
            }
            assert_eq!(texts, HashMap::from([("top".to_owned(), 10), ("bottom".to_owned(), 10)]));
        }
    }

    #[test]
    fn prompts_with_one_label_keep_a_row_and_do_not_disturb_the_balance() {
        let thumbs = |prompt: String, labels: &[bool]| {
            let completions = labels
                .iter()
                .enumerate()
                .map(|(n, label)| completion(&format!("a{n}"), Some(*label)))
                .collect();
            RawGroup { completions, pairs: Vec::new(), ..raw_pair(&prompt, "", "", None) }
        };
        let groups = (0..30).map(|n| match n % 3 {
            0 => thumbs(format!("p{n}"), &[true, true]),
            1 => thumbs(format!("p{n}"), &[false, false]),
            _ => thumbs(format!("p{n}"), &[false, true, true]),
        });
        let feedback = thinned(groups, OnePerPrompt::Alternate, 0);
        let desirable = kept(&feedback).iter().filter(|(_, label)| *label).count();
        assert_eq!((kept(&feedback).len(), desirable), (30, 15));
    }

    proptest! {
        #[test]
        fn the_order_of_rows_does_not_matter(
            rows in proptest::collection::vec((0u8..6, 0u8..5, any::<bool>(), proptest::option::of(0u8..3)), 1..40), seed: u64,
        ) {
            for policy in BOTH {
                let group = |(prompt, text, label, score): &(u8, u8, bool, Option<u8>)| RawGroup {
                    completions: vec![RawCompletion {
                        score: score.map(f64::from),
                        ..completion(&text.to_string(), Some(*label))
                    }],
                    pairs: Vec::new(),
                    ..raw_pair(&prompt.to_string(), "", "", None)
                };
                let mut forward = kept(&thinned(rows.iter().map(group), policy, seed));
                let mut backward = kept(&thinned(rows.iter().rev().map(group), policy, seed));
                forward.sort_unstable();
                backward.sort_unstable();
                let prompts: std::collections::HashSet<u8> = rows.iter().map(|(prompt, ..)| *prompt).collect();
                prop_assert_eq!(forward.len(), prompts.len());
                prop_assert_eq!(forward, backward);
            }
        }

        #[test]
        fn integers_have_the_order_of_their_numbers(one: f64, other: f64) {
            prop_assume!(!one.is_nan() && !other.is_nan());
            prop_assert_eq!(ordered(one).cmp(&ordered(other)), (one + 0.0).total_cmp(&(other + 0.0)));
        }
    }
}
