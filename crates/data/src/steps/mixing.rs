//! Mixing sources: their proportions in the training split.
//!
//! The unit is a training prompt with all its rows. A source s with n_s prompts (after its cap)
//! gets the proportion p_s ∝ w_s · n_s^(1/T). At temperature T = 1 and equal weights, sources are
//! proportional to their size; a high T makes them equal. No prompt is repeated, so without a
//! number of prompts the mix is the largest with these proportions.

use std::collections::{BTreeMap, HashSet};

use prospect_core::draw::Draw;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    DataError, Split,
    table::{
        feedback::{Feedback, lowest_ids},
        ids::Id,
    },
};

/// Proportions of the sources in the training split, by source name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Mix {
    /// Weight w_s of each source. Default: 1; 0 excludes a source.
    pub weights: BTreeMap<String, f64>,
    /// Largest number of training prompts of each source. Default: no limit.
    pub caps: BTreeMap<String, usize>,
    /// Temperature T: 1 keeps sources proportional to their size, higher values make them more
    /// equal. Default: 1.
    pub temperature: f64,
    /// Number of training prompts of all sources together. Default: as many as possible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompts: Option<usize>,
}

impl Default for Mix {
    fn default() -> Self {
        Self { weights: BTreeMap::new(), caps: BTreeMap::new(), temperature: 1.0, prompts: None }
    }
}

/// Training prompts of a source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixCounts {
    /// Prompts before mixing.
    pub available: u64,
    /// Prompts in the mix.
    pub kept: u64,
}

impl Mix {
    /// Returns whether every prompt is kept.
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Fails if a value is outside its range.
    pub(crate) fn check(&self) -> Result<(), DataError> {
        let value = |key: &'static str, value: f64, message| {
            Err(DataError::Value { key: key.into(), value: value.to_string(), message })
        };
        if self.temperature.is_nan() || self.temperature <= 0.0 {
            return value("mix.temperature", self.temperature, "it is a number above 0");
        }
        match self.weights.values().find(|weight| !(**weight >= 0.0 && weight.is_finite())) {
            Some(weight) => value("mix.weights", *weight, "a weight is a number from 0"),
            None => Ok(()),
        }
    }

    /// Drops training rows until the sources have their proportions. Returns counts by source.
    pub(crate) fn apply(
        &self,
        feedback: &mut Feedback,
        seed: u64,
    ) -> Result<BTreeMap<String, MixCounts>, DataError> {
        if self.is_none() {
            return Ok(BTreeMap::new());
        }
        let sources: Vec<String> = {
            let mut sources: Vec<String> =
                feedback.origins.iter().map(|origin| origin.source.clone()).collect();
            sources.sort_unstable();
            sources.dedup();
            sources
        };
        if let Some(name) = self.weights.keys().chain(self.caps.keys()).find(|name| !sources.contains(name)) {
            return Err(DataError::UnknownSource { name: name.clone(), known: sources });
        }
        let prompts: Vec<Vec<Id>> = sources
            .iter()
            .map(|source| {
                feedback.prompts(|row| {
                    let here = feedback.origin(row).source == *source;
                    here && row.kept && feedback.split(row) == Split::Train
                })
            })
            .collect();
        let available: Vec<usize> = sources
            .iter()
            .zip(&prompts)
            .map(|(source, prompts)| {
                self.caps.get(source).map_or(prompts.len(), |cap| prompts.len().min(*cap))
            })
            .collect();
        let quotas = self.quotas(&sources, &available)?;
        let draw = Draw::new(seed, "mix");
        let mut counts = BTreeMap::new();
        for ((source, prompts), quota) in sources.into_iter().zip(prompts).zip(quotas) {
            let kept = lowest_ids(&draw, &prompts, quota);
            let counted = MixCounts { available: prompts.len() as u64, kept: kept.len() as u64 };
            keep(feedback, &source, &kept);
            counts.insert(source, counted);
        }
        Ok(counts)
    }

    /// Returns the number of prompts of each source, of `available` ones.
    fn quotas(&self, sources: &[String], available: &[usize]) -> Result<Vec<usize>, DataError> {
        let shaped = !self.weights.is_empty() || self.temperature != 1.0;
        if !shaped && self.prompts.is_none() {
            return Ok(available.to_vec());
        }
        let weights: Vec<f64> = sources
            .iter()
            .zip(available)
            .map(|(source, available)| {
                let weight = self.weights.get(source).copied().unwrap_or(1.0);
                if *available == 0 { 0.0 } else { weight * (*available as f64).powf(1.0 / self.temperature) }
            })
            .collect();
        let sum: f64 = weights.iter().sum();
        let shares: Vec<f64> = weights.iter().map(|weight| weight / sum.max(f64::MIN_POSITIVE)).collect();
        let largest = shares
            .iter()
            .zip(available)
            .filter(|(share, _)| **share > 0.0)
            .map(|(share, available)| *available as f64 / share)
            .fold(f64::INFINITY, f64::min);
        // Rounding errors may leave the quotient just below a whole number.
        let largest = if largest.is_finite() { (largest + 1e-6).floor() as usize } else { 0 };
        let total = self.prompts.unwrap_or(largest);
        let quotas = apportion(&shares, total);
        let short = quotas.iter().zip(available).position(|(quota, available)| quota > available);
        match short {
            None => Ok(quotas),
            Some(index) => Err(DataError::NotEnough(format!(
                "`mix.prompts: {total}` takes {} training prompts of {}, but there are {}; these shares allow {largest}",
                quotas[index], sources[index], available[index],
            ))),
        }
    }
}

/// Apportions `total` in proportion to `shares` by the largest-remainder method.
fn apportion(shares: &[f64], total: usize) -> Vec<usize> {
    let exact: Vec<f64> = shares.iter().map(|share| share * total as f64).collect();
    let mut quotas: Vec<usize> = exact.iter().map(|exact| (exact + 1e-9).floor() as usize).collect();
    let mut order: Vec<usize> = (0..shares.len()).filter(|index| shares[*index] > 0.0).collect();
    order.sort_by(|one, other| {
        let remainder = |index: usize| exact[index] - quotas[index] as f64;
        remainder(*other).total_cmp(&remainder(*one)).then(one.cmp(other))
    });
    let missing = total.saturating_sub(quotas.iter().sum());
    order.into_iter().take(missing).for_each(|index| quotas[index] += 1);
    quotas
}

/// Drops the training rows of a source whose prompt is not in `kept`.
fn keep(feedback: &mut Feedback, source: &str, kept: &HashSet<Id>) {
    for index in 0..feedback.rows.len() {
        let row = &feedback.rows[index];
        if feedback.split(row) == Split::Train
            && feedback.origin(row).source == source
            && !kept.contains(&feedback.group(row).prompt)
        {
            feedback.rows[index].kept = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::raw_pair;
    use proptest::prelude::*;

    /// Three sources with 60, 30 and 10 prompts of two rows each.
    fn three() -> Feedback {
        let groups = [("a", 60), ("b", 30), ("c", 10)].into_iter().flat_map(|(source, prompts)| {
            (0..prompts).map(move |n| {
                let mut group = raw_pair(&format!("{source}{n}"), "yes", "no", None);
                group.source = source.into();
                group
            })
        });
        Feedback::new(groups)
    }

    fn kept(mix: &Mix) -> ([u64; 3], HashSet<Id>) {
        let mut feedback = three();
        let counts = mix.apply(&mut feedback, 1).unwrap();
        let rows: HashSet<Id> = feedback.kept(Split::Train).map(|row| row.id).collect();
        let counts = ["a", "b", "c"].map(|source| counts[source].kept);
        assert_eq!(rows.len() as u64, 2 * counts.iter().sum::<u64>());
        (counts, rows)
    }

    fn named<T>(values: [(&str, T); 1]) -> BTreeMap<String, T> {
        values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    #[test]
    fn weights_caps_and_temperature_give_exact_counts() {
        let hot = Mix { temperature: f64::INFINITY, ..Mix::default() };
        assert_eq!(kept(&hot).0, [10, 10, 10]);
        assert_eq!(kept(&Mix { prompts: Some(10), ..Mix::default() }).0, [6, 3, 1]);
        assert_eq!(kept(&Mix { caps: named([("a", 7)]), ..Mix::default() }).0, [7, 30, 10]);
        assert_eq!(kept(&Mix { weights: named([("c", 0.0)]), ..Mix::default() }).0, [60, 30, 0]);
        // Shares 60 : 30 : 2 × 10; c has only ten prompts.
        assert_eq!(kept(&Mix { weights: named([("c", 2.0)]), ..Mix::default() }).0, [30, 15, 10]);
        let error = Mix { prompts: Some(200), ..Mix::default() }.apply(&mut three(), 0).unwrap_err();
        assert!(error.to_string().contains("these shares allow 100"), "{error}");
        let error = Mix { caps: named([("d", 1)]), ..Mix::default() }.apply(&mut three(), 0).unwrap_err();
        assert!(error.to_string().contains("`d`") && error.to_string().contains("a, b, c"), "{error}");
    }

    proptest! {
        #[test]
        fn smaller_mixes_are_subsets(one in 0usize..100, other in 0usize..100) {
            let mix = |prompts| kept(&Mix { prompts: Some(prompts), temperature: 1.0, ..Mix::default() });
            let ((small, few), (large, many)) = (mix(one.min(other)), mix(one.max(other)));
            prop_assert_eq!(small.iter().sum::<u64>() as usize, one.min(other));
            // Rounding may give a source one prompt more in the smaller mix.
            if small.iter().zip(large).all(|(small, large)| *small <= large) {
                prop_assert!(few.is_subset(&many));
            }
        }
    }
}
