//! True pairs that no run trains on.

use std::{collections::BTreeMap, path::Path};

use prospect_core::draw::Draw;
use prospect_objective::{BatchLoss, LogProb};
use prospect_runs::PairOutcome;
use prospect_train::{
    Encoder, MicroBatch, PairExample, Policy, ReferenceCache, Role, Settings, TrainError, pack_pairs,
    partners,
};

use crate::{calibration, pairs_at_once};

/// A fixed set of held-out pairs.
#[derive(Debug)]
pub struct HeldOut {
    batches: Vec<MicroBatch>,
    /// The pairs in the order of the batches, without outcome.
    pairs: Vec<PairOutcome>,
}

/// Whether a held-out prompt is of the half that settings are chosen on. The other half is for comparing what was chosen.
pub fn is_validation(prompt_id: &str) -> bool {
    Draw::new(0, "prompts to choose settings on").bits(prompt_id) < u64::MAX / 2
}

/// How a policy ranks the held-out pairs.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Values under TRL's names, `eval_` before each.
    pub values: BTreeMap<String, f64>,
    /// Every pair.
    pub outcomes: Vec<PairOutcome>,
}

impl HeldOut {
    /// Reads the test split of a prepared dataset, for policies trained with `settings`. Of more than `limit` pairs, the
    /// same ones are taken whatever the dataset's training split went through.
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

        // Each prompt with the preferred completion of the next other prompt: what the KL estimate looks at.
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
        let at_once = pairs_at_once(settings);
        for (pairs, mismatched) in pairs.chunks(at_once).zip(mismatched.chunks(at_once)) {
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

    /// Ranks the pairs by the policy. `at_start` says that no step has been taken yet.
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
        let of = |role: Role| {
            roles.iter().zip(&log_probs).filter(move |(r, _)| **r == role).map(|(_, log_prob)| *log_prob)
        };
        let pairs: Vec<(LogProb, LogProb)> = of(Role::Chosen).zip(of(Role::Rejected)).collect();
        let outcome = |(pair, (chosen, rejected)): (&PairOutcome, &(LogProb, LogProb))| PairOutcome {
            chosen: chosen.ratio(),
            rejected: rejected.ratio(),
            ..pair.clone()
        };
        let outcomes: Vec<_> = self.pairs.iter().zip(&pairs).map(outcome).collect();
        let mean = |value: &dyn Fn(&(LogProb, LogProb)) -> f64| {
            pairs.iter().map(value).sum::<f64>() / pairs.len() as f64
        };
        let ranks = |value: fn(LogProb) -> f64| {
            mean(&|(chosen, rejected)| f64::from(value(*chosen) > value(*rejected)))
        };
        let mismatched: Vec<f64> = roles
            .iter()
            .zip(&log_probs)
            .filter(|(role, _)| matches!(role, Role::Mismatched { .. }))
            .map(|(_, log_prob)| log_prob.ratio())
            .collect();
        let kl = mismatched.iter().sum::<f64>() / mismatched.len().max(1) as f64;
        let beta = policy.beta();
        let accuracy = outcomes.iter().map(PairOutcome::accuracy).sum::<f64>() / pairs.len() as f64;

        let mut values: BTreeMap<_, _> =
            metrics.named().map(|(name, value)| (format!("eval_{name}"), value)).collect();
        // What is compared across methods is the same for all of them, whatever they rank by in training: the reward is
        // β times the log-ratio to the reference.
        values.extend(
            [
                ("eval_loss", loss),
                ("eval_kl", kl.max(0.0)),
                ("eval_rewards/chosen", beta * mean(&|(chosen, _)| chosen.ratio())),
                ("eval_rewards/rejected", beta * mean(&|(_, rejected)| rejected.ratio())),
                (
                    "eval_rewards/margins",
                    beta * mean(&|(chosen, rejected)| chosen.ratio() - rejected.ratio()),
                ),
                ("eval_rewards/accuracies", accuracy),
                ("eval_logps/chosen", mean(&|(chosen, _)| chosen.policy)),
                ("eval_logps/rejected", mean(&|(_, rejected)| rejected.policy)),
                // Below the reference's: the margin may grow while both sides become less likely.
                ("eval_logps/chosen_fallen", mean(&|(chosen, _)| f64::from(u8::from(chosen.ratio() < 0.0)))),
                // Of the likelihoods themselves, without reference: what the model would say of the pair by itself.
                ("eval_logps/accuracies", ranks(|log_prob| log_prob.policy)),
                ("eval_mean_logps/accuracies", ranks(LogProb::mean)),
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

/// Accuracy and margin for each domain or source, where there are several.
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
        let mean = |value: &dyn Fn(&PairOutcome) -> f64| {
            pairs.iter().map(|pair| value(pair)).sum::<f64>() / pairs.len() as f64
        };
        [
            (format!("eval_rewards/accuracies/{kind}/{name}"), mean(&PairOutcome::accuracy)),
            (format!("eval_rewards/margins/{kind}/{name}"), beta * mean(&|pair| pair.chosen - pair.rejected)),
        ]
    };
    parts.into_iter().flat_map(values).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_apart_where_there_are_several() {
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
