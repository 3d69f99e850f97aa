//! Measures of held-out thumbs: labelled completions that need not be pairs.
//!
//! Every measure is given as *terms*, one for each thumb, whose mean is the measure. Intervals and
//! differences over seeds, clustered by prompt or group, then follow from [`stats`](crate::stats)
//! as for any other mean.
//!
//! ```
//! use prospect_analysis::thumbs::auc_terms;
//!
//! // Three of the four pairs of a thumb up and a thumb down are ranked right.
//! let terms = auc_terms(&[(2.0, true), (0.5, true), (1.0, false), (-1.0, false)]).unwrap();
//! assert_eq!(terms.iter().sum::<f64>() / terms.len() as f64, 0.75);
//! ```

mod platt;
mod reliability;

use std::collections::BTreeMap;

pub use prospect_core::sample::auc;
use prospect_core::sample::{mean, placements};
use prospect_runs::{ThumbOutcome, preference};

pub use platt::PlattScaling;
pub use reliability::reliability;

/// Returns terms of the area under the ROC curve (AUC) of scores with binary labels; None without
/// both labels.
///
/// The AUC is the probability that a random thumb up has a larger score than a random thumb down,
/// ties counting half. A thumb's placement V is the share of the other class that it is ranked
/// right against; its term is AUC + (n / `n_class`)·(V − AUC). The mean of the terms is the AUC,
/// and their clustered variance is that of DeLong et al. (1988), Obuchowski (1997) with clusters.
pub fn auc_terms(scored: &[(f64, bool)]) -> Option<Vec<f64>> {
    let sizes = ClassSizes::new(scored.iter().map(|(_, label)| *label))?;
    // Terms that are not finite make estimates fail with the thumb's id.
    let Some(placements) = placements(scored).filter(|_| scored.iter().all(|(score, _)| score.is_finite()))
    else {
        return Some(vec![f64::NAN; scored.len()]);
    };
    let of_up = scored.iter().zip(&placements).filter(|((_, label), _)| *label);
    let auc = of_up.map(|(_, placement)| placement).sum::<f64>() / sizes.up as f64;
    let term = |((_, label), placement): (&(f64, bool), &f64)| {
        auc + scored.len() as f64 / sizes.size(*label) * (placement - auc)
    };
    Some(scored.iter().zip(&placements).map(term).collect())
}

/// Number of thumbs up and of thumbs down, neither of them 0.
#[derive(Clone, Copy)]
struct ClassSizes {
    up: usize,
    down: usize,
}

impl ClassSizes {
    /// Counts labels; None without both.
    fn new(labels: impl Iterator<Item = bool>) -> Option<Self> {
        let mut sizes = Self { up: 0, down: 0 };
        for label in labels {
            *(if label { &mut sizes.up } else { &mut sizes.down }) += 1;
        }
        (sizes.up > 0 && sizes.down > 0).then_some(sizes)
    }

    /// Size of the class of a label.
    fn size(self, label: bool) -> f64 {
        (if label { self.up } else { self.down }) as f64
    }
}

/// Log-ratios and labels, for [`auc_terms`].
pub fn scores(thumbs: &[ThumbOutcome]) -> Vec<(f64, bool)> {
    thumbs.iter().map(|thumb| (thumb.log_ratio, thumb.desirable)).collect()
}

/// Returns the AUC within each prompt that has both labels, by prompt id.
///
/// Its mean does not profit from prompts whose completions are mostly desirable, or mostly not.
pub fn auc_by_prompt(thumbs: &[ThumbOutcome]) -> BTreeMap<&str, f64> {
    let mut by_prompt: BTreeMap<&str, Vec<(f64, bool)>> = BTreeMap::new();
    for thumb in thumbs {
        by_prompt.entry(&thumb.prompt_id).or_default().push((thumb.log_ratio, thumb.desirable));
    }
    by_prompt.into_iter().filter_map(|(prompt, scored)| Some((prompt, auc(&scored)?))).collect()
}

/// Returns terms of the balanced accuracy of calling a completion desirable if its log-ratio
/// exceeds `z0`, in nats: the mean over both classes of the share that is right. A log-ratio of
/// exactly `z0` counts half. None without both labels.
pub fn balanced_accuracy_terms(thumbs: &[ThumbOutcome], z0: f64) -> Option<Vec<f64>> {
    let sizes = ClassSizes::new(thumbs.iter().map(|thumb| thumb.desirable))?;
    let term = |thumb: &ThumbOutcome| {
        let ThumbOutcome { log_ratio, desirable, .. } = *thumb;
        let right = if desirable { preference(log_ratio, z0) } else { preference(z0, log_ratio) };
        right * thumbs.len() as f64 / (2.0 * sizes.size(desirable))
    };
    Some(thumbs.iter().map(term).collect())
}

/// Returns terms of the difference between the mean log-ratios of both classes, in nats; None
/// without both labels.
pub fn margin_terms(thumbs: &[ThumbOutcome]) -> Option<Vec<f64>> {
    let sizes = ClassSizes::new(thumbs.iter().map(|thumb| thumb.desirable))?;
    let term = |thumb: &ThumbOutcome| {
        let sign = if thumb.desirable { 1.0 } else { -1.0 };
        sign * thumb.log_ratio * thumbs.len() as f64 / sizes.size(thumb.desirable)
    };
    Some(thumbs.iter().map(term).collect())
}

/// Returns terms of the log loss of the probabilities, in nats; None without probabilities.
pub fn log_loss_terms(thumbs: &[ThumbOutcome]) -> Option<Vec<f64>> {
    let term = |thumb: &ThumbOutcome| {
        let probability = thumb.probability?;
        let of_label = if thumb.desirable { probability } else { 1.0 - probability };
        Some(-of_label.max(f64::MIN_POSITIVE).ln())
    };
    thumbs.iter().map(term).collect()
}

/// Returns terms of the Brier skill score: 1 − Brier score / Brier score of always forecasting the
/// base rate. 0 is no better than the base rate, 1 is perfect. None without probabilities or
/// without both labels.
pub fn brier_skill_terms(thumbs: &[ThumbOutcome]) -> Option<Vec<f64>> {
    let base = base_rate(thumbs)?;
    let of_base = base * (1.0 - base);
    if of_base == 0.0 {
        return None;
    }
    let term = |thumb: &ThumbOutcome| {
        let error = thumb.probability? - f64::from(u8::from(thumb.desirable));
        Some(1.0 - error * error / of_base)
    };
    thumbs.iter().map(term).collect()
}

/// Returns the share of thumbs up; None without thumbs.
pub fn base_rate(thumbs: &[ThumbOutcome]) -> Option<f64> {
    mean(thumbs.iter().map(|thumb| f64::from(u8::from(thumb.desirable))))
}

#[cfg(test)]
pub(crate) fn thumb(id: &str, prompt: &str, log_ratio: f64, desirable: bool) -> ThumbOutcome {
    ThumbOutcome {
        id: id.to_owned(),
        prompt_id: prompt.to_owned(),
        source: "labels".to_owned(),
        domain: String::new(),
        group: None,
        desirable,
        tokens: 5,
        log_ratio,
        probability: None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prospect_runs::Estimate;

    use super::*;
    use crate::stats::{Observation, Scale, estimate};

    /// AUC by its definition: the share of pairs across classes that are ranked right.
    fn auc_by_pairs(scored: &[(f64, bool)]) -> Option<f64> {
        let of = |label: bool| scored.iter().filter(move |(_, other)| *other == label);
        mean(of(true).flat_map(|(up, _)| of(false).map(move |(down, _)| preference(*up, *down))))
    }

    proptest! {
        #[test]
        fn auc_is_the_share_of_pairs_ranked_right(
            scored in prop::collection::vec(((-4_i8..4).prop_map(f64::from), any::<bool>()), 0..40),
        ) {
            match (auc(&scored), auc_by_pairs(&scored)) {
                (None, None) => {}
                (Some(ours), Some(theirs)) => prop_assert!((ours - theirs).abs() < 1e-12),
                other => prop_assert!(false, "{other:?}"),
            }
        }

        #[test]
        fn auc_ignores_the_scale_of_scores(
            scored in prop::collection::vec((-3.0..3.0_f64, any::<bool>()), 2..30),
        ) {
            let scaled: Vec<_> = scored.iter().map(|(score, label)| (score.exp() + 7.0, *label)).collect();
            prop_assert_eq!(auc(&scored).is_some(), auc(&scaled).is_some());
            if let (Some(one), Some(other)) = (auc(&scored), auc(&scaled)) {
                prop_assert!((one - other).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn one_class_has_no_auc_and_a_diverged_run_has_none_that_is_finite() {
        assert_eq!(auc(&[(1.0, true), (2.0, true)]), None);
        let diverged = [(f64::NAN, true), (2.0, false)];
        assert_eq!(auc(&diverged), None);
        assert!(auc_terms(&diverged).unwrap().iter().all(|term| term.is_nan()));
    }

    /// Golden value: DeLong's variance by hand. Up: 3, 1; down: 2, 0. Placements of up 1, ½; of
    /// down ½, 1. AUC ¾; S10 = S01 = ⅛; variance ⅛/2 + ⅛/2 = ⅛.
    #[test]
    fn terms_have_the_variance_of_delong() {
        let scored = [(3.0, true), (1.0, true), (2.0, false), (0.0, false)];
        let terms = auc_terms(&scored).unwrap();
        let auc = mean(terms.iter().copied()).unwrap();
        assert_eq!(auc, 0.75);
        // Sum over classes of (n_class / (n_class − 1)) Σ ((term − auc) / n)².
        let of_class = |label: bool| {
            let squares = terms.iter().zip(&scored).filter(|(_, (_, other))| *other == label);
            squares.map(|(term, _)| ((term - auc) / 4.0).powi(2)).sum::<f64>() * 2.0
        };
        assert!((of_class(true) + of_class(false) - 0.125).abs() < 1e-12);
    }

    #[test]
    fn an_interval_of_the_auc_covers_it_and_widens_with_clusters() {
        // 60 thumbs of ten prompts; the six of a prompt have the same label and nearly the same
        // score.
        let scores = [0.9, 0.2, 0.7, 0.4, 0.8, 0.1, 0.3, 0.6, 0.5, 0.0];
        let row =
            |index: usize| (scores[index / 6] + 1e-3 * (index % 6) as f64, (index / 6).is_multiple_of(2));
        let terms = auc_terms(&(0..60).map(row).collect::<Vec<_>>()).unwrap();
        let ids: Vec<String> = (0..60).map(|index| format!("r{index}")).collect();
        let prompts: Vec<String> = (0..60).map(|index| format!("p{}", index / 6)).collect();
        let observe = |prompts: &[String]| {
            let rows = ids.iter().zip(prompts).zip(&terms);
            let observations: Vec<_> =
                rows.map(|((pair, prompt), value)| Observation { pair, prompt, value: *value }).collect();
            estimate(&[observations], Scale::Range { low: 0.0, high: 1.0 }).unwrap()
        };
        let (alone, clustered) = (observe(&ids), observe(&prompts));
        assert!(alone.low < alone.value && alone.value < alone.high, "{alone:?}");
        assert!((alone.value - clustered.value).abs() < 1e-12, "{alone:?} {clustered:?}");
        let width = |estimate: Estimate| estimate.high - estimate.low;
        assert!(width(clustered) > 1.5 * width(alone), "{alone:?} {clustered:?}");
    }

    #[test]
    fn auc_within_prompts_does_not_reward_knowing_the_prompt() {
        // The prompt alone separates the classes, except inside prompt `b`.
        let thumbs = [
            thumb("1", "a", 5.0, true),
            thumb("2", "a", 4.0, true),
            thumb("3", "b", 1.0, true),
            thumb("4", "b", 2.0, false),
            thumb("5", "c", -3.0, false),
        ];
        assert!(auc(&scores(&thumbs)).unwrap() > 0.8);
        assert_eq!(auc_by_prompt(&thumbs), [("b", 0.0)].into());
    }

    #[test]
    fn balanced_accuracy_counts_both_classes_alike() {
        // 3 of 4 up and 0 of 1 down are right; the mean of both shares is 3/8.
        let mut thumbs: Vec<_> =
            [2.0, 3.0, 4.0, 0.0].map(|log_ratio| thumb("u", "p", log_ratio, true)).into();
        thumbs.push(thumb("d", "p", 5.0, false));
        let value = mean(balanced_accuracy_terms(&thumbs, 1.0).unwrap()).unwrap();
        assert!((value - 0.375).abs() < 1e-12);
        let tie = [thumb("u", "p", 1.0, true), thumb("d", "p", 1.0, false)];
        assert_eq!(mean(balanced_accuracy_terms(&tie, 1.0).unwrap()), Some(0.5));
        assert_eq!(balanced_accuracy_terms(&thumbs[..4], 1.0), None);
    }

    #[test]
    fn margins_are_differences_of_class_means() {
        let thumbs = [thumb("1", "p", 3.0, true), thumb("2", "p", 1.0, true), thumb("3", "p", -4.0, false)];
        assert!((mean(margin_terms(&thumbs).unwrap()).unwrap() - 6.0).abs() < 1e-12);
    }

    #[test]
    fn the_base_rate_has_no_skill_and_certainty_has_all() {
        let with = |probability: f64, desirable: bool| ThumbOutcome {
            probability: Some(probability),
            ..thumb("t", "p", 0.0, desirable)
        };
        let base = [with(0.25, true), with(0.25, false), with(0.25, false), with(0.25, false)];
        assert!(mean(brier_skill_terms(&base).unwrap()).unwrap().abs() < 1e-12);
        let sure = [with(1.0, true), with(0.0, false)];
        assert_eq!(mean(brier_skill_terms(&sure).unwrap()), Some(1.0));
        assert_eq!(mean(log_loss_terms(&sure).unwrap()), Some(0.0));
        let even = [with(0.5, true), with(0.5, false)];
        assert!((mean(log_loss_terms(&even).unwrap()).unwrap() - 2.0_f64.ln()).abs() < 1e-12);
        assert_eq!(log_loss_terms(&[thumb("t", "p", 0.0, true)]), None);
        assert_eq!(brier_skill_terms(&[with(0.5, true)]), None);
    }
}
