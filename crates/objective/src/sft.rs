//! Supervised fine-tuning: negative log-likelihood of completions.

use prospect_core::sample::mean;

use crate::{BatchLoss, Metrics};

/// Completion to imitate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Supervised {
    /// log π of the completion, in nats.
    pub policy: f64,
    /// Number of scored completion tokens.
    pub tokens: usize,
    /// Weight of the completion.
    pub weight: f64,
}

/// SFT: the sum of −w·log π divided by the number of completion tokens in the batch. All tokens
/// count alike, whatever their completion.
///
/// Conditional SFT uses this loss too. There, each completion follows a control text that states
/// whether it is desirable.
pub fn sft(batch: &[Supervised]) -> BatchLoss {
    let tokens = batch.iter().map(|completion| completion.tokens).sum::<usize>().max(1) as f64;
    BatchLoss {
        loss: -batch.iter().map(|completion| completion.weight * completion.policy).sum::<f64>() / tokens,
        gradient: batch.iter().map(|completion| -completion.weight / tokens).collect(),
        metrics: Metrics {
            logps_chosen: mean(batch.iter().map(|completion| completion.policy)),
            ..Metrics::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_count_alike_whatever_their_completion() {
        let completion = |policy, tokens, weight| Supervised { policy, tokens, weight };
        let evaluated = sft(&[completion(-2.0, 1, 1.0), completion(-9.0, 9, 1.0)]);
        assert!((evaluated.loss - 1.1).abs() < 1e-15);
        assert_eq!(evaluated.gradient, [-0.1, -0.1]);
        let evaluated = sft(&[completion(-2.0, 1, 3.0), completion(-9.0, 9, 1.0)]);
        assert!((evaluated.loss - 1.5).abs() < 1e-15);
        assert_eq!(evaluated.gradient, [-0.3, -0.1]);
        assert_eq!(sft(&[]).loss, 0.0);
    }
}
