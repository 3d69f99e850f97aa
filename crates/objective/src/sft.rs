//! Supervised fine-tuning: the negative log-likelihood of completions.

use crate::{Evaluated, Metrics, metrics::mean};

/// A completion to imitate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Supervised {
    /// log π of the completion, in nats.
    pub policy: f64,
    /// Scored completion tokens.
    pub tokens: usize,
}

/// The mean over all completion tokens of the batch of −log π.
pub fn sft(batch: &[Supervised]) -> Evaluated {
    let tokens = batch.iter().map(|completion| completion.tokens).sum::<usize>().max(1) as f64;
    Evaluated {
        loss: -batch.iter().map(|completion| completion.policy).sum::<f64>() / tokens,
        gradient: vec![-1.0 / tokens; batch.len()],
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
        let batch = [Supervised { policy: -2.0, tokens: 1 }, Supervised { policy: -9.0, tokens: 9 }];
        let evaluated = sft(&batch);
        assert!((evaluated.loss - 1.1).abs() < 1e-15);
        assert_eq!(evaluated.gradient, [-0.1, -0.1]);
        assert_eq!(sft(&[]).loss, 0.0);
    }
}
