//! Log-probabilities of a completion.

/// log π(y|x) of one completion, summed over its scored tokens, in nats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogProb {
    /// Log-probability under the policy in training.
    pub policy: f64,
    /// Log-probability under the reference model; ignored by objectives without a reference.
    pub reference: f64,
    /// Number of scored tokens. Means over tokens treat 0 as 1.
    pub tokens: usize,
}

impl LogProb {
    /// Returns the log-ratio log π/π_ref, in nats.
    pub fn ratio(self) -> f64 {
        self.policy - self.reference
    }

    /// Returns the divisor for means over tokens.
    pub(crate) fn length(self) -> f64 {
        self.tokens.max(1) as f64
    }

    /// Returns the mean of log π over the tokens, in nats.
    pub fn mean(self) -> f64 {
        self.policy / self.length()
    }
}
