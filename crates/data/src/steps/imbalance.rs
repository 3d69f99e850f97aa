//! Class imbalance: keeps only part of a class of training rows.
//!
//! The recipe gives either the fraction of each class to keep, or the ratio of desirable to
//! undesirable rows. A fraction refers to the training rows of the class. (HALOs counts generations
//! instead, so its 0.5 removes nothing.) Rows are drawn one by one, not in pairs; a pair stays in
//! the paired file if both of its rows stay.

use std::{collections::BTreeMap, fmt, str::FromStr};

use prospect_core::draw::{Draw, exact_count};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    DataError,
    table::{
        feedback::{Feedback, lowest},
        ids::Id,
    },
};

/// Class imbalance of the training rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Imbalance {
    /// Fraction of the desirable rows to keep. Default: 1.
    pub keep_desirable: f64,
    /// Fraction of the undesirable rows to keep. Default: 1.
    pub keep_undesirable: f64,
    /// Ratio of desirable to undesirable rows, such as `1:10`. Keeps as many rows as possible, or
    /// `total`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<Ratio>,
    /// Number of rows of both classes together; needs `ratio`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<usize>,
    /// Rows that fractions, ratio and total refer to. Default: overall.
    #[serde(skip_serializing_if = "ImbalanceScope::is_overall")]
    pub per: ImbalanceScope,
    /// Seed that draws the rows to keep. Default: the recipe's seed. Lets a sweep vary the rows but
    /// not the split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl Default for Imbalance {
    fn default() -> Self {
        let (ratio, total, per, seed) = (None, None, ImbalanceScope::Overall, None);
        Self { keep_desirable: 1.0, keep_undesirable: 1.0, ratio, total, per, seed }
    }
}

/// Rows that a fraction, ratio or total refers to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ImbalanceScope {
    /// Rows of all sources together.
    #[default]
    Overall,
    /// Rows of each source separately.
    Source,
}

impl ImbalanceScope {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_overall(&self) -> bool {
        *self == Self::Overall
    }
}

/// Ratio of desirable to undesirable rows, both above 0; written `1:10`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(into = "String", try_from = "String")]
#[schemars(extend("pattern" = "^[^:]+:[^:]+$"))]
pub struct Ratio {
    desirable: f64,
    undesirable: f64,
}

impl FromStr for Ratio {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse().ok().filter(|n: &f64| *n > 0.0 && n.is_finite());
        let parsed = text.split_once(':').and_then(|(desirable, undesirable)| {
            Some(Self { desirable: number(desirable)?, undesirable: number(undesirable)? })
        });
        parsed.ok_or_else(|| format!("`{text}` is not a ratio: write desirable:undesirable, such as 1:10"))
    }
}

impl TryFrom<String> for Ratio {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Ratio> for String {
    fn from(ratio: Ratio) -> Self {
        ratio.to_string()
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.desirable, self.undesirable)
    }
}

/// Training rows of one class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassCounts {
    /// Rows kept.
    pub kept: u64,
    /// Rows dropped.
    pub dropped: u64,
}

/// Training rows kept and dropped by imbalance, by label before noise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImbalanceCounts {
    /// Desirable rows.
    pub desirable: ClassCounts,
    /// Undesirable rows.
    pub undesirable: ClassCounts,
}

impl Imbalance {
    /// Returns whether every row is kept.
    pub(crate) fn is_none(&self) -> bool {
        self.keep_desirable == 1.0 && self.keep_undesirable == 1.0 && self.ratio.is_none()
    }

    /// Fails if settings contradict each other.
    pub(crate) fn check(&self) -> Result<(), DataError> {
        let value = |key: &'static str, value: String, message| {
            Err(DataError::Value { key: key.into(), value, message })
        };
        match (self.ratio, self.total) {
            (Some(ratio), _) if self.keep_desirable != 1.0 || self.keep_undesirable != 1.0 => value(
                "imbalance.ratio",
                ratio.to_string(),
                "give either a ratio or the shares `keep_desirable` and `keep_undesirable`",
            ),
            (None, Some(total)) => value(
                "imbalance.total",
                total.to_string(),
                "it is the number of rows of an `imbalance.ratio`, which is not given",
            ),
            _ => Ok(()),
        }
    }

    /// Returns the number of rows to keep, of `available` ones: desirable, undesirable.
    fn counts(&self, available: [usize; 2], scope: &str) -> Result<[usize; 2], DataError> {
        let [desirable, undesirable] = available;
        let Some(ratio) = self.ratio else {
            return Ok([
                exact_count(self.keep_desirable, desirable),
                exact_count(self.keep_undesirable, undesirable),
            ]);
        };
        let Some(total) = self.total else {
            // Limited by the class that has too few rows.
            let wanted = exact_count(ratio.undesirable / ratio.desirable, desirable);
            return Ok(if wanted <= undesirable {
                [desirable, wanted]
            } else {
                [exact_count(ratio.desirable / ratio.undesirable, undesirable).min(desirable), undesirable]
            });
        };
        let wanted = exact_count(ratio.desirable / (ratio.desirable + ratio.undesirable), total);
        let counts = [wanted, total - wanted];
        if counts[0] > desirable || counts[1] > undesirable {
            return Err(DataError::NotEnough(format!(
                "`imbalance.ratio: {ratio}` with `total: {total}` takes {} desirable and {} undesirable training \
                 rows{scope}, but there are {desirable} and {undesirable}",
                counts[0], counts[1],
            )));
        }
        Ok(counts)
    }
}

/// Drops training rows until each class has the number that the recipe keeps.
pub(crate) fn thin(
    feedback: &mut Feedback,
    imbalance: Imbalance,
    seed: u64,
) -> Result<ImbalanceCounts, DataError> {
    let draw = Draw::new(imbalance.seed.unwrap_or(seed), "keep");
    let mut classes: BTreeMap<String, [Vec<(Id, u32)>; 2]> = BTreeMap::new();
    for (class, label) in [true, false].into_iter().enumerate() {
        for index in feedback.training_class(label) {
            let row = &feedback.rows[index as usize];
            let scope = match imbalance.per {
                ImbalanceScope::Overall => "",
                ImbalanceScope::Source => feedback.origin(row).source.as_str(),
            };
            // There are many rows and few names: `entry` would allocate a name for every row.
            if !classes.contains_key(scope) {
                classes.insert(scope.to_owned(), [Vec::new(), Vec::new()]);
            }
            if let Some(rows) = classes.get_mut(scope) {
                rows[class].push((row.id, index));
            }
        }
    }
    let mut counts = [ClassCounts::default(); 2];
    for (scope, rows) in classes {
        let scope = if scope.is_empty() { scope } else { format!(" of {scope}") };
        let keep = imbalance.counts([rows[0].len(), rows[1].len()], &scope)?;
        for ((rows, keep), counts) in rows.iter().zip(keep).zip(&mut counts) {
            let kept = lowest(&draw, rows, keep);
            counts.kept += kept.len() as u64;
            counts.dropped += (rows.len() - kept.len()) as u64;
            feedback.drop_rows(rows.iter().map(|(_, index)| *index));
            for row in kept {
                feedback.rows[row as usize].kept = true;
            }
        }
    }
    Ok(ImbalanceCounts { desirable: counts[0], undesirable: counts[1] })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{
        Split,
        fixtures::{distinct_pairs, raw_pair},
    };
    use proptest::prelude::*;

    fn kept(imbalance: Imbalance, seed: u64) -> (ImbalanceCounts, HashSet<Id>) {
        let mut feedback = distinct_pairs(97);
        let counts = thin(&mut feedback, imbalance, seed).unwrap();
        (counts, feedback.kept(Split::Train).map(|row| row.id).collect())
    }

    fn shares(keep_desirable: f64, keep_undesirable: f64, seed: u64) -> (ImbalanceCounts, HashSet<Id>) {
        kept(Imbalance { keep_desirable, keep_undesirable, ..Imbalance::default() }, seed)
    }

    proptest! {
        #[test]
        fn counts_are_exact_and_smaller_shares_are_subsets(a in 0.0..=1.0f64, b in 0.0..=1.0f64, seed: u64) {
            let (low, high) = (a.min(b), a.max(b));
            let ((counts, small), (_, large)) = (shares(low, 1.0, seed), shares(high, 1.0, seed));
            prop_assert!(small.is_subset(&large));
            let kept = exact_count(low, 97) as u64;
            prop_assert_eq!(counts.desirable, ClassCounts { kept, dropped: 97 - kept });
            prop_assert_eq!(counts.undesirable, ClassCounts { kept: 97, dropped: 0 });
            prop_assert_eq!(small.len() as u64, kept + 97);
        }

        #[test]
        fn ratios_are_as_near_as_whole_rows_can_be(one in 1u32..30, other in 1u32..30, total in 2usize..60, seed: u64) {
            let ratio: Ratio = format!("{one}:{other}").parse().unwrap();
            let (desirable, share) = (f64::from(one), f64::from(one) / f64::from(one + other));
            let (counts, small) = kept(Imbalance { ratio: Some(ratio), total: Some(total), ..Imbalance::default() }, seed);
            prop_assert_eq!(counts.desirable.kept + counts.undesirable.kept, total as u64);
            prop_assert!((counts.desirable.kept as f64 - share * total as f64).abs() <= 0.5);
            let (counts, large) = kept(Imbalance { ratio: Some(ratio), ..Imbalance::default() }, seed);
            prop_assert!(counts.desirable.kept.max(counts.undesirable.kept) == 97);
            let wanted = counts.undesirable.kept as f64 * desirable / f64::from(other);
            prop_assert!((counts.desirable.kept as f64 - wanted).abs() <= 0.5 * (desirable / f64::from(other)).max(1.0));
            prop_assert!(small.is_subset(&large));
        }
    }

    #[test]
    fn a_tenth_is_part_of_a_half() {
        let ((small_counts, small), (large_counts, large)) = (shares(0.1, 0.1, 3), shares(0.5, 0.5, 3));
        assert!(small.is_subset(&large));
        assert_eq!((small_counts.desirable.kept, large_counts.desirable.kept), (10, 49));
    }

    #[test]
    fn each_source_has_its_own_count() {
        let group = |source: &str, n: usize| {
            let mut group = raw_pair(&format!("{source}{n}"), "yes", "no", None);
            group.source = source.into();
            group
        };
        let groups = (0..30).map(|n| group("one", n)).chain((0..10).map(|n| group("other", n)));
        let mut feedback = Feedback::new(groups);
        let (ratio, total) = ("1:4".parse().ok(), Some(10));
        let imbalance = Imbalance { ratio, total, per: ImbalanceScope::Source, ..Imbalance::default() };
        let counts = thin(&mut feedback, imbalance, 0).unwrap();
        assert_eq!((counts.desirable.kept, counts.undesirable.kept), (4, 16));
        for (source, kept) in [("one", 10), ("other", 10)] {
            let rows = feedback.kept(Split::Train).filter(|row| feedback.origin(row).source == source);
            assert_eq!(rows.count(), kept);
        }
        let error = thin(&mut feedback, Imbalance { total: Some(11), ..imbalance }, 0).unwrap_err();
        assert!(error.to_string().contains("of one, but there are 2 and 8"), "{error}");
    }

    #[test]
    fn ratios_are_two_numbers_above_zero() {
        assert_eq!("1:2.5".parse::<Ratio>().unwrap().to_string(), "1:2.5");
        for text in ["", "1", "1:0", "-1:2", "1:2:3", "a:b", "1:inf"] {
            assert!(text.parse::<Ratio>().is_err(), "{text}");
        }
    }
}
