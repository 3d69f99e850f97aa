//! Metrics of corrupted and clean rows of a batch: the effect of injected noise on training.

use prospect_core::sample::mean;
use prospect_objective::LogProb;
use prospect_runs::preference;

use crate::Role;

/// Computes metrics of clean and of corrupted rows. A class that is absent from the batch has no
/// metrics.
///
/// * `noise/gradient_weight/clean|corrupted`: mean |d loss / d log π| of the class's completions,
///   relative to the mean of the batch. Measures the influence of the class on the step.
/// * `noise/rewards/clean|corrupted`: mean of β·log-ratio, negated for undesirable and rejected
///   completions. Measures how far the policy has moved towards the labels. Needs a reference.
/// * `noise/agreement/clean|corrupted`: share of these rewards above 0; ties count half. Needs a
///   reference.
///
/// `beta` is `None` for objectives without reference. Mismatched completions belong to neither
/// class.
pub(crate) fn noise_metrics(
    roles: &[Role],
    corrupted: &[bool],
    logps: &[LogProb],
    gradient: &[f64],
    beta: Option<f64>,
) -> Vec<(&'static str, f64)> {
    let rows: Vec<NoiseRow> = roles
        .iter()
        .zip(corrupted)
        .zip(logps.iter().zip(gradient))
        .filter_map(|((role, corrupted), (log_prob, gradient))| {
            let sign = match role {
                Role::Mismatched { .. } => return None,
                Role::Rejected | Role::Unpaired { desirable: false, .. } => -1.0,
                Role::Chosen | Role::Supervised { .. } | Role::Unpaired { desirable: true, .. } => 1.0,
            };
            Some(NoiseRow {
                corrupted: *corrupted,
                gradient: gradient.abs(),
                reward: beta.map(|beta| sign * beta * log_prob.ratio()),
            })
        })
        .collect();
    let batch_gradient = mean(rows.iter().map(|row| row.gradient)).filter(|mean| *mean > 0.0);
    let mut metrics = Vec::new();
    for (corrupted, names) in [(false, CLEAN), (true, CORRUPTED)] {
        let class = || rows.iter().filter(move |row| row.corrupted == corrupted);
        let rewards = || class().filter_map(|row| row.reward);
        let values = [
            batch_gradient.and_then(|batch| Some(mean(class().map(|row| row.gradient))? / batch)),
            mean(rewards()),
            mean(rewards().map(|reward| preference(reward, 0.0))),
        ];
        metrics.extend(names.into_iter().zip(values).filter_map(|(name, value)| Some((name, value?))));
    }
    metrics
}

/// One completion, as these metrics see it.
struct NoiseRow {
    corrupted: bool,
    /// |d loss / d log π|.
    gradient: f64,
    /// Signed reward; `None` without reference.
    reward: Option<f64>,
}

const CLEAN: [&str; 3] = ["noise/gradient_weight/clean", "noise/rewards/clean", "noise/agreement/clean"];
const CORRUPTED: [&str; 3] =
    ["noise/gradient_weight/corrupted", "noise/rewards/corrupted", "noise/agreement/corrupted"];

#[cfg(test)]
mod tests {
    use super::*;

    fn log_prob(ratio: f64) -> LogProb {
        LogProb { policy: ratio - 5.0, reference: -5.0, tokens: 1 }
    }

    #[test]
    fn classes_are_separate_and_weights_are_relative() {
        let roles = [
            Role::Unpaired { desirable: true, weight: 1.0, group: 0 },
            Role::Unpaired { desirable: false, weight: 1.0, group: 0 },
            Role::Unpaired { desirable: false, weight: 1.0, group: 0 },
            Role::Mismatched { group: 0 },
        ];
        let log_probs = [2.0, 2.0, -4.0, 100.0].map(log_prob);
        let metrics = noise_metrics(
            &roles,
            &[false, false, true, false],
            &log_probs,
            &[-0.1, 0.2, 0.6, 0.0],
            Some(0.5),
        );
        let value = |name: &str| metrics.iter().find(|(other, _)| *other == name).unwrap().1;
        assert!((value("noise/gradient_weight/clean") - 0.5).abs() < 1e-12);
        assert!((value("noise/gradient_weight/corrupted") - 2.0).abs() < 1e-12);
        assert!((value("noise/rewards/clean") - 0.0).abs() < 1e-12);
        assert!((value("noise/rewards/corrupted") - 2.0).abs() < 1e-12);
        assert!((value("noise/agreement/clean") - 0.5).abs() < 1e-12);
        assert!((value("noise/agreement/corrupted") - 1.0).abs() < 1e-12);
    }

    #[test]
    fn an_absent_class_and_an_absent_reference_have_no_values() {
        let metrics = noise_metrics(&[Role::Chosen], &[false], &[log_prob(1.0)], &[-1.0], None);
        assert_eq!(metrics, [("noise/gradient_weight/clean", 1.0)]);
    }
}
