//! Unpaired feedback from pairs: keeps one side of each training pair. A prompt with several pairs
//! keeps several rows; see `one_per_prompt` for the KTO paper's one-y-per-x.

use prospect_core::draw::Draw;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Split, table::feedback::Feedback};

/// Side of a training pair that stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnePerPair {
    /// Chosen side of the first pair, rejected side of the second, and so on: balanced classes.
    Alternate,
    /// Random side, drawn by the pair's content: independent of the order of pairs.
    Hash,
}

/// Drops one side of every training pair. Returns the number of dropped rows.
pub(crate) fn thin(feedback: &mut Feedback, policy: OnePerPair, seed: u64) -> u64 {
    let draw = Draw::new(seed, "one per pair");
    let dropped: Vec<u32> = feedback
        .kept_pairs(Split::Train)
        .enumerate()
        .map(|(index, pair)| {
            let keep_chosen = match policy {
                OnePerPair::Alternate => index.is_multiple_of(2),
                OnePerPair::Hash => draw.bits(pair.id.digits().as_ref()).is_multiple_of(2),
            };
            if keep_chosen { pair.rejected } else { pair.chosen }
        })
        .collect();
    let before = feedback.rows.iter().filter(|row| row.kept).count();
    feedback.drop_rows(dropped);
    (before - feedback.rows.iter().filter(|row| row.kept).count()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::distinct_pairs;

    #[test]
    fn one_row_of_each_training_pair_stays() {
        for policy in [OnePerPair::Alternate, OnePerPair::Hash] {
            let mut feedback = distinct_pairs(400);
            for group in feedback.groups.iter_mut().take(20) {
                group.split = Some(Split::Test);
            }
            assert_eq!(thin(&mut feedback, policy, 0), 380);
            assert_eq!(
                (feedback.kept(Split::Train).count(), feedback.kept_pairs(Split::Train).count()),
                (380, 0)
            );
            assert_eq!(feedback.kept_pairs(Split::Test).count(), 20);
            let desirable = feedback.kept(Split::Train).filter(|row| row.original_label).count();
            let expected = if policy == OnePerPair::Alternate { 190..=190 } else { 150..=230 };
            assert!(expected.contains(&desirable), "{desirable}");
        }
    }
}
