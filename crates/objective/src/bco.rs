//! Binary classifier optimisation (BCO, arXiv 2404.04656).

use serde::{Deserialize, Serialize};

use crate::{
    BatchLoss, LogProb, Metrics, Unpaired,
    kto::classes,
    math::{log_sigmoid, sigmoid},
};

/// Settings of BCO.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bco {
    /// β: scale of the rewards, β · log-ratio.
    pub beta: f64,
}

impl Default for Bco {
    fn default() -> Self {
        Self { beta: 0.1 }
    }
}

/// Running mean for BCO's shift δ, kept between steps and in checkpoints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RunningMean {
    /// Mean of all values so far; 0 if there are none.
    pub mean: f64,
    /// Number of values.
    pub count: u64,
}

impl RunningMean {
    /// Returns the mean updated with further values.
    #[must_use]
    pub fn with_values(self, values: impl Iterator<Item = f64>) -> Self {
        values.fold(self, |Self { mean, count }, value| Self {
            mean: mean + (value - mean) / (count + 1) as f64,
            count: count + 1,
        })
    }
}

impl Bco {
    /// Returns the mean reward including `batch`, which is the shift for the loss of this batch.
    #[must_use]
    pub fn observe(self, before: RunningMean, batch: &[Unpaired]) -> RunningMean {
        before.with_values(batch.iter().map(|example| self.reward(example.log_prob)))
    }

    fn reward(self, log_prob: LogProb) -> f64 {
        self.beta * log_prob.ratio()
    }
}

/// BCO (equation 10): the mean over examples of −w·log σ(ρ − δ) for desirable and −w·log σ(δ − ρ)
/// for undesirable completions. The reward ρ is β·log-ratio. δ is the running mean of all rewards;
/// no gradient flows through it.
pub fn bco(options: &Bco, batch: &[Unpaired], delta: f64) -> BatchLoss {
    let count = batch.len().max(1) as f64;
    let (mut loss, mut gradient) = (0.0, Vec::with_capacity(batch.len()));
    for example in batch {
        let sign = if example.desirable { 1.0 } else { -1.0 };
        let x = sign * (options.reward(example.log_prob) - delta);
        loss -= example.weight * log_sigmoid(x);
        gradient.push(-example.weight * sign * options.beta * sigmoid(-x) / count);
    }
    let (desirable, undesirable) = classes(batch);
    let metrics = Metrics {
        delta: Some(delta),
        ..Metrics::from_classes(|log_prob| options.reward(log_prob), &desirable, &undesirable)
    };
    BatchLoss { loss: loss / count, gradient, metrics }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{kto::tests::unpaired, math::finite_differences};

    #[test]
    fn golden_values() {
        // Without a shift, one desirable and one undesirable example give half of TRL's bco_pair
        // loss, which sums the two.
        let batch = unpaired(&[(2.0, true), (-1.0, true), (0.5, false), (3.0, false)]);
        let evaluated = bco(&Bco::default(), &batch, 0.0);
        assert!((2.0 * evaluated.loss - 1.457_675_211_0).abs() < 1e-10, "{}", evaluated.loss);
        let seen = Bco::default().observe(RunningMean::default(), &batch);
        assert!((seen.mean - 0.1125).abs() < 1e-15 && seen.count == 4);
        assert_eq!(bco(&Bco::default(), &batch, seen.mean).metrics.delta, Some(seen.mean));
    }

    #[test]
    fn the_running_mean_does_not_depend_on_how_batches_are_cut() {
        let values = [3.0, -1.0, 0.5, 8.0, 2.0];
        let whole = RunningMean::default().with_values(values.into_iter());
        let parts = values
            .chunks(2)
            .fold(RunningMean::default(), |mean, part| mean.with_values(part.iter().copied()));
        assert_eq!(whole, parts);
        assert!((whole.mean - 2.5).abs() < 1e-15);
        // Nor does it change across a checkpoint.
        let text = serde_json::to_string(&whole).unwrap();
        assert_eq!(serde_json::from_str::<RunningMean>(&text).unwrap(), whole);
    }

    #[test]
    fn at_the_start_the_loss_is_ln_2_and_one_class_is_enough() {
        let batch = unpaired(&[(0.0, true), (0.0, true)]);
        let evaluated = bco(&Bco::default(), &batch, 0.0);
        assert_eq!(evaluated.loss, std::f64::consts::LN_2);
        assert_eq!(evaluated.metrics.rewards_rejected, None);
    }

    #[test]
    fn extreme_rewards_stay_finite() {
        let batch = unpaired(&[(1e5, true), (-1e5, true), (1e5, false), (-1e5, false)]);
        let evaluated = bco(&Bco::default(), &batch, 3.0);
        assert!(evaluated.loss.is_finite() && evaluated.gradient.iter().all(|gradient| gradient.is_finite()));
        assert!(evaluated.gradient[0].abs() < 1e-12 && evaluated.gradient[3].abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn gradients_are_derivatives(
            rows in prop::collection::vec((-20.0..20.0f64, any::<bool>(), 0.1..3.0f64), 1..8),
            (beta, delta) in (0.01..1.0f64, -2.0..2.0f64),
        ) {
            let options = Bco { beta };
            let batch = |ratios: &[f64]| -> Vec<_> {
                ratios.iter().zip(&rows).map(|(ratio, (_, desirable, weight))| {
                    Unpaired { weight: *weight, ..unpaired(&[(*ratio, *desirable)])[0] }
                }).collect()
            };
            let at: Vec<_> = rows.iter().map(|row| row.0).collect();
            let numeric = finite_differences(&at, |ratios| bco(&options, &batch(ratios), delta).loss);
            for (gradient, numeric) in bco(&options, &batch(&at), delta).gradient.iter().zip(numeric) {
                prop_assert!((gradient - numeric).abs() < 1e-7, "{} {}", gradient, numeric);
            }
        }
    }
}
