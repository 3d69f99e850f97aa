//! Sequence log-probs from token log-probs, and token gradients from sequence gradients.

use prospect_model::PackedBatch;
use prospect_objective::{Humanline, LogProb, Ppo, Surrogate, Whitening};

use crate::batches::Role;

/// Number of scored tokens inside the bounds of humanline or PPO, out of all scored tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct UnclampedCount {
    pub(crate) inside: usize,
    pub(crate) total: usize,
}

impl UnclampedCount {
    pub(crate) fn add(self, other: Self) -> Self {
        Self { inside: self.inside + other.inside, total: self.total + other.total }
    }

    /// Share of tokens inside the bounds; 0 without tokens.
    pub(crate) fn share(self) -> f64 {
        self.inside as f64 / self.total.max(1) as f64
    }
}

/// Log-probs of a micro-batch's sequences, as the objective receives them.
pub(crate) struct MicroBatchLogps {
    /// One entry per sequence.
    pub(crate) logps: Vec<LogProb>,
    /// PPO's surrogates, one per sequence; empty for other objectives.
    pub(crate) surrogates: Vec<f64>,
    /// One flag per scored token: inside the bounds of humanline or PPO. `None` without bounds.
    unclamped: Option<Vec<bool>>,
    /// Derivative of a sequence's input to the objective with respect to log π of each scored
    /// token.
    slopes: TokenSlopes,
}

/// Derivatives with respect to log π of tokens.
enum TokenSlopes {
    /// 1: the input is the sum of the tokens' log-probs.
    Ones,
    /// 1 for unclamped tokens, else 0.
    Unclamped,
    /// PPO's surrogates.
    Surrogates(Vec<f64>),
}

/// Pairs up sequence log-probs of policy and reference.
pub(crate) fn sequence_logps(
    packed: &PackedBatch,
    policy_logps: Vec<f64>,
    reference_logps: Vec<f64>,
) -> Vec<LogProb> {
    policy_logps
        .into_iter()
        .zip(reference_logps)
        .zip(packed.lengths())
        .map(|((policy, reference), tokens)| LogProb { policy, reference, tokens })
        .collect()
}

impl MicroBatchLogps {
    /// Sums the policy's token log-probs; `reference_logps` are per sequence already.
    pub(crate) fn new(packed: &PackedBatch, policy_token_logps: &[f64], reference_logps: Vec<f64>) -> Self {
        let policy_logps = packed.sum_by_sequence(policy_token_logps);
        Self {
            logps: sequence_logps(packed, policy_logps, reference_logps),
            surrogates: Vec::new(),
            unclamped: None,
            slopes: TokenSlopes::Ones,
        }
    }

    /// Clamps the log-ratio of every token, then sums.
    ///
    /// The policy's log-probs stay as they are; the reference's become policy minus clamped
    /// log-ratio, so that the difference is the clamped log-ratio of the sequence.
    pub(crate) fn with_clamp(
        packed: &PackedBatch,
        policy_token_logps: &[f64],
        reference_token_logps: &[f64],
        humanline: Humanline,
    ) -> Self {
        let ratios: Vec<f64> = policy_token_logps
            .iter()
            .zip(reference_token_logps)
            .map(|(policy, reference)| policy - reference)
            .collect();
        let clamped: Vec<f64> = ratios.iter().map(|ratio| humanline.clamp(*ratio)).collect();
        let policy_logps = packed.sum_by_sequence(policy_token_logps);
        let log_ratios = packed.sum_by_sequence(&clamped);
        let reference_logps =
            policy_logps.iter().zip(log_ratios).map(|(policy, ratio)| policy - ratio).collect();
        let unclamped = ratios.into_iter().map(|ratio| humanline.is_inside(ratio)).collect();
        Self {
            logps: sequence_logps(packed, policy_logps, reference_logps),
            surrogates: Vec::new(),
            unclamped: Some(unclamped),
            slopes: TokenSlopes::Unclamped,
        }
    }

    /// Computes PPO's surrogate of every labelled sequence.
    pub(crate) fn with_surrogates(
        packed: &PackedBatch,
        roles: &[Role],
        policy_token_logps: &[f64],
        reference_token_logps: &[f64],
        (options, whitening): (&Ppo, Whitening),
    ) -> Self {
        // Tokens of one sequence are in order, but sequences are in the order of their prompts.
        let mut ratios = vec![Vec::new(); packed.sequences()];
        let tokens = policy_token_logps.iter().zip(reference_token_logps);
        for (sequence, (policy, reference)) in packed.scored_sequences().zip(tokens) {
            ratios[sequence].push(policy - reference);
        }
        let of_sequence = |(role, ratios): (&Role, &Vec<f64>)| match role.is_desirable() {
            Some(desirable) => options.surrogate(whitening, desirable, ratios),
            None => Surrogate::default(),
        };
        let by_sequence: Vec<Surrogate> = roles.iter().zip(&ratios).map(of_sequence).collect();
        let mut tokens: Vec<_> = by_sequence
            .iter()
            .map(|surrogate| surrogate.slopes.iter().copied().zip(surrogate.unclipped.iter().copied()))
            .collect();
        let (slopes, unclamped) =
            packed.scored_sequences().map(|sequence| tokens[sequence].next().unwrap_or((0.0, true))).unzip();
        let policy_logps = packed.sum_by_sequence(policy_token_logps);
        let reference_logps = packed.sum_by_sequence(reference_token_logps);
        Self {
            logps: sequence_logps(packed, policy_logps, reference_logps),
            surrogates: by_sequence.iter().map(|surrogate| surrogate.value).collect(),
            unclamped: Some(unclamped),
            slopes: TokenSlopes::Surrogates(slopes),
        }
    }

    /// Spreads the gradient of sequences over their scored tokens. Clamped tokens get 0.
    pub(crate) fn token_gradient(&self, packed: &PackedBatch, sequence_gradient: &[f64]) -> Vec<f64> {
        let of_tokens = packed.scored_sequences().map(|sequence| sequence_gradient[sequence]);
        match (&self.slopes, &self.unclamped) {
            (TokenSlopes::Surrogates(slopes), _) => {
                of_tokens.zip(slopes).map(|(gradient, slope)| gradient * slope).collect()
            }
            (TokenSlopes::Unclamped, Some(unclamped)) => of_tokens
                .zip(unclamped)
                .map(|(gradient, unclamped)| if *unclamped { gradient } else { 0.0 })
                .collect(),
            (TokenSlopes::Ones | TokenSlopes::Unclamped, _) => of_tokens.collect(),
        }
    }

    /// Counts unclamped tokens; `None` without bounds.
    pub(crate) fn unclamped(&self) -> Option<UnclampedCount> {
        let unclamped = self.unclamped.as_ref()?;
        let inside = unclamped.iter().filter(|unclamped| **unclamped).count();
        Some(UnclampedCount { inside, total: unclamped.len() })
    }
}

/// Log-probs of a global batch, as the objective receives them.
#[derive(Debug, Default)]
pub(crate) struct BatchLogps {
    /// One entry per sequence, in the order of the micro-batches.
    pub(crate) logps: Vec<LogProb>,
    /// PPO's surrogates, one per sequence; zeros for other objectives, or nothing.
    pub(crate) surrogates: Vec<f64>,
    /// Unclamped tokens of the whole batch; `None` without bounds.
    pub(crate) unclamped: Option<UnclampedCount>,
}

#[cfg(test)]
mod tests {
    use prospect_model::Packer;

    use super::*;

    #[test]
    fn tokens_have_the_slopes_of_their_own_surrogates() {
        // The second prompt's completion was added first, so the packed order is not that of the
        // sequences.
        let mut packer = Packer::default();
        let (first, second) = (packer.add_prompt(&[1]), packer.add_prompt(&[9]));
        packer.add_completion(second, &[5], true);
        packer.add_completion(first, &[2, 3], true);
        let packed = packer.pack().unwrap();
        assert_eq!(packed.scored_sequences().collect::<Vec<_>>(), [1, 1, 0]);
        let options = Ppo::default();
        let whitening = options.whitening([(false, 1), (true, 2)]);
        let role = |desirable| Role::Unpaired { desirable, weight: 1.0, group: 0 };
        let (policy, reference) = ([-1.0, -5.0, -2.0], [-1.25, -3.0, -2.5]);
        let roles = [role(false), role(true)];
        let logps =
            MicroBatchLogps::with_surrogates(&packed, &roles, &policy, &reference, (&options, whitening));
        let down = options.surrogate(whitening, false, &[0.5]);
        let up = options.surrogate(whitening, true, &[0.25, -2.0]);
        assert_eq!(logps.surrogates, [down.value, up.value]);
        assert_eq!(
            logps.token_gradient(&packed, &[2.0, -1.0]),
            [-up.slopes[0], -up.slopes[1], 2.0 * down.slopes[0]]
        );
        assert_eq!(logps.logps[1], LogProb { policy: -6.0, reference: -4.25, tokens: 2 });
    }

    #[test]
    fn tokens_are_clamped_before_they_are_summed() {
        let mut packer = Packer::default();
        let prompt = packer.add_prompt(&[1]);
        packer.add_completion(prompt, &[2, 3, 4], true);
        packer.add_completion(prompt, &[5], true);
        let packed = packer.pack().unwrap();
        let (policy, reference) = ([-1.0, -5.0, -2.0, -3.0], [-4.0, -3.0, -2.25, -3.0]);
        let clamped = MicroBatchLogps::with_clamp(&packed, &policy, &reference, Humanline::default());
        let ratios: Vec<f64> = clamped.logps.iter().map(|log_prob| log_prob.ratio()).collect();
        assert_eq!(ratios, [1.5 - 1.0 + 0.25, 0.0]);
        assert_eq!(clamped.logps[0].policy, -8.0);
        assert_eq!(clamped.token_gradient(&packed, &[2.0, -1.0]), [0.0, 0.0, 2.0, -1.0]);
        assert_eq!(clamped.unclamped(), Some(UnclampedCount { inside: 2, total: 4 }));

        let plain = MicroBatchLogps::new(&packed, &policy, vec![-9.25, -3.0]);
        assert_eq!(plain.logps[0], LogProb { policy: -8.0, reference: -9.25, tokens: 3 });
        assert_eq!(plain.token_gradient(&packed, &[2.0, -1.0]), [2.0, 2.0, 2.0, -1.0]);
    }
}
