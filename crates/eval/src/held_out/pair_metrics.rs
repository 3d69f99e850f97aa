//! Metrics of held-out pairs.

use std::collections::BTreeMap;

use prospect_analysis::calibration;
use prospect_core::sample::mean;
use prospect_objective::LogProb;
use prospect_runs::PairOutcome;

/// Returns accuracies and calibration, overall and by source and domain; empty without pairs.
pub(super) fn values(
    beta: f64,
    pairs: &[(LogProb, LogProb)],
    outcomes: &[PairOutcome],
) -> BTreeMap<String, f64> {
    let accuracy_by = |value: fn(LogProb) -> f64| {
        mean(pairs.iter().map(|(chosen, rejected)| f64::from(value(*chosen) > value(*rejected))))
    };
    let mut values: BTreeMap<String, f64> = [
        ("eval_rewards/accuracies", mean(outcomes.iter().map(PairOutcome::accuracy))),
        // Accuracies of the policy's log-probs without the reference.
        ("eval_logps/accuracies", accuracy_by(|log_prob| log_prob.policy)),
        ("eval_mean_logps/accuracies", accuracy_by(LogProb::mean)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect();
    let calibration = calibration(outcomes.iter().map(|outcome| (beta, outcome)));
    values.extend(calibration.map(|all| ("eval_calibration/error".to_owned(), all.error)));
    values.extend(by_origin("domain", beta, outcomes, |outcome| &outcome.domain));
    values.extend(by_origin("source", beta, outcomes, |outcome| &outcome.source));
    values
}

/// Accuracy and margin by domain or source, if there are several.
fn by_origin(
    kind: &str,
    beta: f64,
    outcomes: &[PairOutcome],
    origin: fn(&PairOutcome) -> &str,
) -> BTreeMap<String, f64> {
    let mut parts: BTreeMap<&str, Vec<&PairOutcome>> = BTreeMap::new();
    for outcome in outcomes {
        parts.entry(origin(outcome)).or_default().push(outcome);
    }
    if parts.len() < 2 {
        return BTreeMap::new();
    }
    let values = |(name, pairs): (&str, Vec<&PairOutcome>)| {
        let mean_over_part = |value: &dyn Fn(&PairOutcome) -> f64| {
            mean(pairs.iter().map(|pair| value(pair))).unwrap_or(f64::NAN)
        };
        let margin = beta * mean_over_part(&|pair| pair.chosen - pair.rejected);
        [
            (format!("eval_rewards/accuracies/{kind}/{name}"), mean_over_part(&PairOutcome::accuracy)),
            (format!("eval_rewards/margins/{kind}/{name}"), margin),
        ]
    };
    parts.into_iter().flat_map(values).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_domains_are_reported_separately() {
        let outcome = |domain: &str, chosen: f64| PairOutcome {
            pair_id: String::new(),
            prompt_id: String::new(),
            source: "shp".to_owned(),
            domain: domain.to_owned(),
            group: None,
            chosen,
            rejected: 0.0,
            own_scores: None,
        };
        let outcomes = [outcome("law", 2.0), outcome("law", -1.0), outcome("art", 4.0)];
        assert_eq!(by_origin("source", 0.1, &outcomes, |outcome| &outcome.source), BTreeMap::new());
        let values = by_origin("domain", 0.5, &outcomes, |outcome| &outcome.domain);
        let expected = [
            ("eval_rewards/accuracies/domain/art", 1.0),
            ("eval_rewards/accuracies/domain/law", 0.5),
            ("eval_rewards/margins/domain/art", 2.0),
            ("eval_rewards/margins/domain/law", 0.25),
        ];
        assert_eq!(values, expected.map(|(name, value)| (name.to_owned(), value)).into());
    }
}
