//! What an objective sees of a completion.

/// log π(y|x) of one completion, summed over its scored tokens, in nats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogProb {
    /// Under the policy that is trained.
    pub policy: f64,
    /// Under the reference. Objectives without reference do not look at it.
    pub reference: f64,
    /// Scored tokens. Objectives that average over them take 0 for 1.
    pub tokens: usize,
}

impl LogProb {
    /// log π/π_ref, in nats.
    pub fn ratio(self) -> f64 {
        self.policy - self.reference
    }

    /// The divisor of a mean over tokens.
    pub(crate) fn length(self) -> f64 {
        self.tokens.max(1) as f64
    }

    /// Mean of log π over the tokens, in nats.
    pub fn mean(self) -> f64 {
        self.policy / self.length()
    }
}
