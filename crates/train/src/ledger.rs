//! What happens to the rows that noise changed, beside the others.

use prospect_objective::LogProb;
use prospect_runs::preference;

use crate::Role;

/// Metrics of a batch's clean and corrupted rows apart; a class that is absent from the batch has no value.
///
/// * `noise/gradient_weight/clean|corrupted`: mean |d loss / d log π| of the class's completions, where 1 is the mean of
///   the whole batch: how much the step listens to them.
/// * `noise/rewards/clean|corrupted`: with a reference, the mean of β times the log-ratio, counted negative for
///   undesirable and rejected completions: how far the policy has gone along with the labels as they are.
/// * `noise/agreement/clean|corrupted`: with a reference, the share of these rewards above 0, ties counting half.
pub(crate) fn noise_ledger(
    roles: &[Role],
    corrupted: &[bool],
    log_probs: &[LogProb],
    gradient: &[f64],
    beta: Option<f64>,
) -> Vec<(&'static str, f64)> {
    let rows: Vec<(bool, f64, Option<f64>)> = roles
        .iter()
        .zip(corrupted)
        .zip(log_probs.iter().zip(gradient))
        .filter_map(|((role, corrupted), (log_prob, gradient))| {
            let sign = match role {
                Role::Mismatched { .. } => return None,
                Role::Rejected | Role::Unpaired { desirable: false, .. } => -1.0,
                Role::Chosen | Role::Supervised { .. } | Role::Unpaired { desirable: true, .. } => 1.0,
            };
            Some((*corrupted, gradient.abs(), beta.map(|beta| sign * beta * log_prob.ratio())))
        })
        .collect();
    let weight = mean(rows.iter().map(|(_, weight, _)| *weight)).filter(|weight| *weight > 0.0);
    let mut metrics = Vec::new();
    for (class, names) in [(false, CLEAN), (true, CORRUPTED)] {
        let of_class = || rows.iter().filter(move |(corrupted, ..)| *corrupted == class);
        let rewards = || of_class().filter_map(|(.., reward)| *reward);
        let values = [
            weight.and_then(|all| Some(mean(of_class().map(|(_, weight, _)| *weight))? / all)),
            mean(rewards()),
            mean(rewards().map(|reward| preference(reward, 0.0))),
        ];
        metrics.extend(names.into_iter().zip(values).filter_map(|(name, value)| Some((name, value?))));
    }
    metrics
}

const CLEAN: [&str; 3] = ["noise/gradient_weight/clean", "noise/rewards/clean", "noise/agreement/clean"];
const CORRUPTED: [&str; 3] =
    ["noise/gradient_weight/corrupted", "noise/rewards/corrupted", "noise/agreement/corrupted"];

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (count > 0.0).then_some(sum / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_prob(ratio: f64) -> LogProb {
        LogProb { policy: ratio - 5.0, reference: -5.0, tokens: 1 }
    }

    #[test]
    fn classes_are_told_apart_and_weights_are_relative() {
        let roles = [
            Role::Unpaired { desirable: true, weight: 1.0, group: 0 },
            Role::Unpaired { desirable: false, weight: 1.0, group: 0 },
            Role::Unpaired { desirable: false, weight: 1.0, group: 0 },
            Role::Mismatched { group: 0 },
        ];
        let log_probs = [2.0, 2.0, -4.0, 100.0].map(log_prob);
        let ledger =
            noise_ledger(&roles, &[false, false, true, false], &log_probs, &[-0.1, 0.2, 0.6, 0.0], Some(0.5));
        let value = |name: &str| ledger.iter().find(|(other, _)| *other == name).unwrap().1;
        assert!((value("noise/gradient_weight/clean") - 0.5).abs() < 1e-12);
        assert!((value("noise/gradient_weight/corrupted") - 2.0).abs() < 1e-12);
        assert!((value("noise/rewards/clean") - 0.0).abs() < 1e-12);
        assert!((value("noise/rewards/corrupted") - 2.0).abs() < 1e-12);
        assert!((value("noise/agreement/clean") - 0.5).abs() < 1e-12);
        assert!((value("noise/agreement/corrupted") - 1.0).abs() < 1e-12);
    }

    #[test]
    fn an_absent_class_and_an_absent_reference_have_no_values() {
        let ledger = noise_ledger(&[Role::Chosen], &[false], &[log_prob(1.0)], &[-1.0], None);
        assert_eq!(ledger, [("noise/gradient_weight/clean", 1.0)]);
    }
}
