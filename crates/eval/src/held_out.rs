//! Evaluation on held-out pairs.

use std::{collections::BTreeMap, path::Path};

use prospect_analysis::calibration;
use prospect_core::{draw::Draw, sample::mean};
use prospect_objective::{BatchLoss, LogProb};
use prospect_runs::PairOutcome;
use prospect_train::{
    Encoder, MicroBatch, PairExample, Policy, ReferenceCache, Role, Settings, TrainError, pack_pairs,
    partners,
};

use crate::pairs_per_pass;

/// A fixed set of held-out pairs, which no run trains on and noise does not change.
#[derive(Debug)]
pub struct HeldOut {
    batches: Vec<MicroBatch>,
    /// Pairs in the order of the batches, with log-ratios of 0.
    pairs: Vec<PairOutcome>,
}

/// Results of a policy on the held-out pairs.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Metrics under TRL's names with the prefix `eval_`.
    pub values: BTreeMap<String, f64>,
    /// Log-ratios of every pair.
    pub outcomes: Vec<PairOutcome>,
}

impl HeldOut {
    /// Reads the test split of a prepared dataset, for policies trained with `settings`. Draws
    /// `limit` pairs if there are more; noise and imbalance of the training split do not change the
    /// draw.
    pub fn read(
        dataset: &Path,
        limit: Option<usize>,
        settings: &Settings,
        encoder: &Encoder<'_>,
    ) -> Result<Self, TrainError> {
        let objective = &settings.objective;
        let mut pairs = PairExample::read_held_out(dataset, objective, encoder)?;
        pairs.sort_by(|a, b| a.row.pair_id.cmp(&b.row.pair_id));
        pairs.dedup_by(|a, b| a.row.pair_id == b.row.pair_id);
        let draw = Draw::new(0, "held-out pairs");
        draw.keep_lowest(&mut pairs, limit.unwrap_or(usize::MAX), |pair| &pair.row.pair_id);

        // Mismatched completions for the KL estimate: each prompt with the preferred completion of
        // the next other prompt.
        let all: Vec<usize> = (0..pairs.len()).collect();
        let mut mismatched = Vec::with_capacity(pairs.len());
        for (index, pair) in pairs.iter().enumerate() {
            let same_prompt = |other: usize| pairs[other].row.prompt_id == pair.row.prompt_id;
            let other = partners(&all, index, same_prompt).next();
            mismatched.push(match other {
                Some(other) => encoder.encode_after(
                    &pair.row.prompt,
                    objective.control(true),
                    &pairs[other].row.chosen,
                )?,
                None => None,
            });
        }
        let mut batches = Vec::new();
        let pairs_per_pass = pairs_per_pass(settings);
        for (pairs, mismatched) in pairs.chunks(pairs_per_pass).zip(mismatched.chunks(pairs_per_pass)) {
            let pairs: Vec<_> = pairs.iter().collect();
            let mismatched: Vec<_> = mismatched.iter().flatten().cloned().collect();
            batches.push(pack_pairs(&pairs, &mismatched)?);
        }
        let pairs = pairs.into_iter().map(|PairExample { row, .. }| PairOutcome {
            pair_id: row.pair_id,
            prompt_id: row.prompt_id,
            source: row.source,
            domain: row.domain,
            chosen: 0.0,
            rejected: 0.0,
        });
        Ok(Self { batches, pairs: pairs.collect() })
    }

    /// Number of pairs.
    pub fn pairs(&self) -> usize {
        self.pairs.len()
    }

    /// Evaluates the policy on the pairs. `at_start` is true before the first optimizer step.
    pub fn evaluate(
        &self,
        policy: &Policy<'_>,
        at_start: bool,
        cache: &ReferenceCache,
    ) -> Result<Evaluation, TrainError> {
        let (mut roles, mut log_probs) = (Vec::new(), Vec::new());
        for batch in &self.batches {
            log_probs.extend(policy.log_probs(&batch.packed, at_start, cache)?);
            roles.extend_from_slice(&batch.roles);
        }
        let BatchLoss { loss, metrics, .. } = policy.evaluate(&roles, &log_probs);
        let with_role = |role: Role| {
            let all = roles.iter().zip(&log_probs);
            all.filter(move |(other, _)| **other == role).map(|(_, log_prob)| *log_prob)
        };
        let pairs: Vec<(LogProb, LogProb)> = with_role(Role::Chosen).zip(with_role(Role::Rejected)).collect();
        let outcome = |(pair, (chosen, rejected)): (&PairOutcome, &(LogProb, LogProb))| PairOutcome {
            chosen: chosen.ratio(),
            rejected: rejected.ratio(),
            ..pair.clone()
        };
        let outcomes: Vec<_> = self.pairs.iter().zip(&pairs).map(outcome).collect();
        let mean_over_pairs =
            |value: &dyn Fn(&(LogProb, LogProb)) -> f64| mean(pairs.iter().map(value)).unwrap_or(f64::NAN);
        let accuracy_by = |value: fn(LogProb) -> f64| {
            mean_over_pairs(&|(chosen, rejected)| f64::from(value(*chosen) > value(*rejected)))
        };
        let mismatched = roles
            .iter()
            .zip(&log_probs)
            .filter(|(role, _)| matches!(role, Role::Mismatched { .. }))
            .map(|(_, log_prob)| log_prob.ratio());
        let kl = mean(mismatched).unwrap_or(0.0);
        let beta = policy.beta();
        let accuracy = mean(outcomes.iter().map(PairOutcome::accuracy)).unwrap_or(f64::NAN);

        let mut values: BTreeMap<_, _> =
            metrics.named().map(|(name, value)| (format!("eval_{name}"), value)).collect();
        // Rewards are β times the log-ratio to the reference for every method, whatever its
        // training objective ranks by, so that methods are comparable.
        values.extend(
            [
                ("eval_loss", loss),
                ("eval_kl", kl.max(0.0)),
                ("eval_rewards/chosen", beta * mean_over_pairs(&|(chosen, _)| chosen.ratio())),
                ("eval_rewards/rejected", beta * mean_over_pairs(&|(_, rejected)| rejected.ratio())),
                (
                    "eval_rewards/margins",
                    beta * mean_over_pairs(&|(chosen, rejected)| chosen.ratio() - rejected.ratio()),
                ),
                ("eval_rewards/accuracies", accuracy),
                ("eval_logps/chosen", mean_over_pairs(&|(chosen, _)| chosen.policy)),
                ("eval_logps/rejected", mean_over_pairs(&|(_, rejected)| rejected.policy)),
                // Share below the reference: the margin may grow while both completions become less
                // likely.
                (
                    "eval_logps/chosen_fallen",
                    mean_over_pairs(&|(chosen, _)| f64::from(u8::from(chosen.ratio() < 0.0))),
                ),
                // Accuracies of the policy's log-probs without the reference.
                ("eval_logps/accuracies", accuracy_by(|log_prob| log_prob.policy)),
                ("eval_mean_logps/accuracies", accuracy_by(LogProb::mean)),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let calibration = calibration(outcomes.iter().map(|outcome| (beta, outcome)));
        values.extend(calibration.map(|all| ("eval_calibration/error".to_owned(), all.error)));
        values.extend(by_origin("domain", beta, &outcomes, |outcome| &outcome.domain));
        values.extend(by_origin("source", beta, &outcomes, |outcome| &outcome.source));
        Ok(Evaluation { values, outcomes })
    }
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
            chosen,
            rejected: 0.0,
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
