//! Policies that are tables, and descent on their logits.

use prospect_objective::{Evaluated, LogProb};

/// A policy over the few completions of one prompt, beside its reference.
#[derive(Debug, Clone)]
pub(crate) struct Tabular {
    /// log π_ref, in nats.
    reference: Vec<f64>,
    logits: Vec<f64>,
}

/// Descent stops once no logit's gradient is larger than this.
const FLAT: f64 = 1e-13;
/// Descent gives up after so many steps.
const STEPS: usize = 100_000;

impl Tabular {
    /// The reference itself, from its probabilities.
    pub(crate) fn at(reference: &[f64]) -> Self {
        let reference: Vec<f64> = reference.iter().map(|probability| probability.ln()).collect();
        Self { logits: reference.clone(), reference }
    }

    /// π* ∝ π_ref·exp(r/β): the policy of greatest reward less β·KL (arXiv 2305.18290, equation 4).
    pub(crate) fn optimal(reference: &[f64], rewards: &[f64], beta: f64) -> Self {
        let mut policy = Self::at(reference);
        for (logit, reward) in policy.logits.iter_mut().zip(rewards) {
            *logit += reward / beta;
        }
        policy
    }

    /// log π, in nats.
    fn log_policy(&self) -> Vec<f64> {
        let most = self.logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total = self.logits.iter().map(|logit| (logit - most).exp()).sum::<f64>().ln() + most;
        self.logits.iter().map(|logit| logit - total).collect()
    }

    /// π.
    pub(crate) fn probabilities(&self) -> Vec<f64> {
        self.log_policy().into_iter().map(f64::exp).collect()
    }

    /// The log-probabilities of every completion.
    pub(crate) fn log_probs(&self) -> Vec<LogProb> {
        let sides = self.log_policy().into_iter().zip(&self.reference);
        sides.map(|(policy, reference)| LogProb { policy, reference: *reference, tokens: 1 }).collect()
    }

    /// KL(π ‖ π_ref), in nats: KTO's reference point without any estimate.
    pub(crate) fn kl(&self) -> f64 {
        let terms = self.log_probs().into_iter().zip(self.probabilities());
        terms.map(|(log_prob, probability)| probability * log_prob.ratio()).sum::<f64>().max(0.0)
    }

    /// Descends to where the loss is flat. `evaluate` gives the loss of log-probs and its derivative with respect to each
    /// completion's log π, in the order of completions; the second argument is KTO's reference point, which is a constant
    /// of every step, as in training.
    ///
    /// A step is taken if it neither goes past a valley nor up, and then doubled, else halved: towards an optimum at
    /// infinity, steps grow without bound.
    pub(crate) fn descend(mut self, evaluate: impl Fn(&[LogProb], f64) -> (f64, Vec<f64>)) -> Self {
        let mut step = 1.0;
        for _ in 0..STEPS {
            let z0 = self.kl();
            let (loss, gradient) = self.evaluate(z0, &evaluate);
            if gradient.iter().all(|of_logit| of_logit.abs() < FLAT) {
                break;
            }
            let mut next = self.clone();
            for (logit, of_logit) in next.logits.iter_mut().zip(&gradient) {
                *logit -= step * of_logit;
            }
            let (next_loss, next_gradient) = next.evaluate(z0, &evaluate);
            let ahead: f64 = gradient.iter().zip(&next_gradient).map(|(here, there)| here * there).sum();
            if ahead >= 0.0 && next_loss <= loss + 1e-15 * loss.abs() {
                self = next;
                step *= 2.0;
            } else {
                step /= 2.0;
            }
        }
        self
    }

    /// The loss and its derivative with respect to each logit.
    fn evaluate(&self, z0: f64, evaluate: impl Fn(&[LogProb], f64) -> (f64, Vec<f64>)) -> (f64, Vec<f64>) {
        let (loss, gradient) = evaluate(&self.log_probs(), z0);
        let total: f64 = gradient.iter().sum();
        let of_logit = gradient.iter().zip(self.probabilities()).map(|(of, p)| of - p * total).collect();
        (loss, of_logit)
    }
}

/// Adds up what an objective says of examples, each of which is about one of `completions` completions.
pub(crate) fn by_completion(
    evaluated: &Evaluated,
    examples: &[usize],
    completions: usize,
) -> (f64, Vec<f64>) {
    let mut gradient = vec![0.0; completions];
    for (completion, of_example) in examples.iter().zip(&evaluated.gradient) {
        gradient[*completion] += of_example;
    }
    (evaluated.loss, gradient)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descent_reaches_a_valley_and_runs_off_to_infinity() {
        // Cross-entropy to a distribution has its least value there.
        let wanted = [0.7, 0.2, 0.1];
        let policy = Tabular::at(&[0.2, 0.3, 0.5]).descend(|log_probs, _| {
            let terms = log_probs.iter().zip(wanted);
            (terms.map(|(log_prob, p)| -p * log_prob.policy).sum(), wanted.iter().map(|p| -p).collect())
        });
        for (found, wanted) in policy.probabilities().iter().zip(wanted) {
            assert!((found - wanted).abs() < 1e-12, "{found}");
        }
        let certain =
            Tabular::at(&[0.01, 0.99]).descend(|log_probs, _| (-log_probs[0].policy, vec![-1.0, 0.0]));
        assert!(certain.probabilities()[1] < 1e-12);
    }

    #[test]
    fn the_divergence_from_oneself_is_nothing() {
        assert_eq!(Tabular::at(&[0.2, 0.8]).kl(), 0.0);
        let moved = Tabular::optimal(&[0.2, 0.8], &[1.0, 0.0], 1.0);
        let e = 1f64.exp();
        let p = 0.2 * e / (0.2 * e + 0.8);
        assert!((moved.probabilities()[0] - p).abs() < 1e-15);
        assert!((moved.kl() - (p * (p / 0.2).ln() + (1.0 - p) * ((1.0 - p) / 0.8).ln())).abs() < 1e-14);
    }
}
