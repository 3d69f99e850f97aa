//! Tabular policies, and gradient descent on their logits.

use prospect_objective::{BatchLoss, LogProb};

/// Policy over the few completions of one prompt, with its reference.
#[derive(Debug, Clone)]
pub(crate) struct TabularPolicy {
    /// log π_ref, in nats.
    reference: Vec<f64>,
    logits: Vec<f64>,
}

/// Descent stops once every logit's gradient is below this.
const GRADIENT_TOLERANCE: f64 = 1e-13;
/// Maximum number of descent steps.
const MAX_STEPS: usize = 100_000;

impl TabularPolicy {
    /// Creates a policy equal to the reference, given its probabilities.
    pub(crate) fn from_reference(reference: &[f64]) -> Self {
        let reference: Vec<f64> = reference.iter().map(|probability| probability.ln()).collect();
        Self { logits: reference.clone(), reference }
    }

    /// Creates π* ∝ π_ref·exp(r/β), which maximises reward minus β·KL (arXiv 2305.18290, equation
    /// 4).
    pub(crate) fn optimal(reference: &[f64], rewards: &[f64], beta: f64) -> Self {
        let mut policy = Self::from_reference(reference);
        for (logit, reward) in policy.logits.iter_mut().zip(rewards) {
            *logit += reward / beta;
        }
        policy
    }

    /// Returns the policy with these probabilities and the same reference.
    pub(crate) fn moved_to(self, probabilities: &[f64]) -> Self {
        Self { logits: probabilities.iter().map(|probability| probability.ln()).collect(), ..self }
    }

    /// Returns the derivative of a loss with respect to each logit; see [`Self::descend`].
    pub(crate) fn logit_gradient(&self, evaluate: impl Fn(&[LogProb], f64) -> (f64, Vec<f64>)) -> Vec<f64> {
        self.evaluate(self.kl(), evaluate).1
    }

    /// Returns log π, in nats.
    fn log_policy(&self) -> Vec<f64> {
        let most = self.logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total = self.logits.iter().map(|logit| (logit - most).exp()).sum::<f64>().ln() + most;
        self.logits.iter().map(|logit| logit - total).collect()
    }

    /// Returns π.
    pub(crate) fn probabilities(&self) -> Vec<f64> {
        self.log_policy().into_iter().map(f64::exp).collect()
    }

    /// Returns the log-probabilities of every completion.
    pub(crate) fn log_probs(&self) -> Vec<LogProb> {
        let sides = self.log_policy().into_iter().zip(&self.reference);
        sides.map(|(policy, reference)| LogProb { policy, reference: *reference, tokens: 1 }).collect()
    }

    /// Returns KL(π ‖ π_ref), in nats: the exact value of KTO's reference point.
    pub(crate) fn kl(&self) -> f64 {
        let terms = self.log_probs().into_iter().zip(self.probabilities());
        terms.map(|(log_prob, probability)| probability * log_prob.ratio()).sum::<f64>().max(0.0)
    }

    /// Descends until the gradient vanishes.
    ///
    /// `evaluate` returns the loss of the log-probs and its derivative with respect to each
    /// completion's log π, in order of completions. Its second argument is KTO's reference point,
    /// held constant during a step as in training.
    ///
    /// A step is accepted if it neither overshoots a minimum nor raises the loss; the step size
    /// then doubles, otherwise it halves. Towards an optimum at infinity, steps grow without bound.
    pub(crate) fn descend(mut self, evaluate: impl Fn(&[LogProb], f64) -> (f64, Vec<f64>)) -> Self {
        let mut step = 1.0;
        for _ in 0..MAX_STEPS {
            let z0 = self.kl();
            let (loss, gradient) = self.evaluate(z0, &evaluate);
            if gradient.iter().all(|logit_gradient| logit_gradient.abs() < GRADIENT_TOLERANCE) {
                break;
            }
            let mut next = self.clone();
            for (logit, logit_gradient) in next.logits.iter_mut().zip(&gradient) {
                *logit -= step * logit_gradient;
            }
            let (next_loss, next_gradient) = next.evaluate(z0, &evaluate);
            let alignment: f64 = gradient.iter().zip(&next_gradient).map(|(here, there)| here * there).sum();
            if alignment >= 0.0 && next_loss <= loss + 1e-15 * loss.abs() {
                self = next;
                step *= 2.0;
            } else {
                step /= 2.0;
            }
        }
        self
    }

    /// Returns the loss and its derivative with respect to each logit.
    fn evaluate(&self, z0: f64, evaluate: impl Fn(&[LogProb], f64) -> (f64, Vec<f64>)) -> (f64, Vec<f64>) {
        let (loss, gradient) = evaluate(&self.log_probs(), z0);
        let total: f64 = gradient.iter().sum();
        let logit_gradient =
            gradient.iter().zip(self.probabilities()).map(|(of, p)| of - p * total).collect();
        (loss, logit_gradient)
    }
}

/// Sums the gradients of examples by completion; `examples` holds the completion's index of each
/// example.
pub(crate) fn sum_by_completion(
    evaluated: &BatchLoss,
    examples: &[usize],
    completions: usize,
) -> (f64, Vec<f64>) {
    let mut gradient = vec![0.0; completions];
    for (completion, example_gradient) in examples.iter().zip(&evaluated.gradient) {
        gradient[*completion] += example_gradient;
    }
    (evaluated.loss, gradient)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descent_reaches_a_valley_and_runs_off_to_infinity() {
        // The cross-entropy to a distribution is minimal at that distribution.
        let wanted = [0.7, 0.2, 0.1];
        let policy = TabularPolicy::from_reference(&[0.2, 0.3, 0.5]).descend(|log_probs, _| {
            let terms = log_probs.iter().zip(wanted);
            (terms.map(|(log_prob, p)| -p * log_prob.policy).sum(), wanted.iter().map(|p| -p).collect())
        });
        for (found, wanted) in policy.probabilities().iter().zip(wanted) {
            assert!((found - wanted).abs() < 1e-12, "{found}");
        }
        let certain = TabularPolicy::from_reference(&[0.01, 0.99])
            .descend(|log_probs, _| (-log_probs[0].policy, vec![-1.0, 0.0]));
        assert!(certain.probabilities()[1] < 1e-12);
    }

    #[test]
    fn the_divergence_from_oneself_is_nothing() {
        assert_eq!(TabularPolicy::from_reference(&[0.2, 0.8]).kl(), 0.0);
        let moved = TabularPolicy::optimal(&[0.2, 0.8], &[1.0, 0.0], 1.0);
        let e = 1f64.exp();
        let p = 0.2 * e / (0.2 * e + 0.8);
        assert!((moved.probabilities()[0] - p).abs() < 1e-15);
        assert!((moved.kl() - (p * (p / 0.2).ln() + (1.0 - p) * ((1.0 - p) / 0.8).ln())).abs() < 1e-14);
    }
}
