//! Metrics that objectives log, under TRL's names.

use prospect_core::sample::mean;

use crate::LogProb;

/// Means over a batch. A metric of a class that the batch lacks is None.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    /// KTO's reference point z0: mean log-ratio of mismatched completions, at least 0, in nats.
    pub kl: Option<f64>,
    /// The estimate behind z0 before it is clamped: mean log-ratio of mismatched completions, in
    /// nats. It may be negative, as an estimate from few completions.
    pub kl_unclamped: Option<f64>,
    /// BCO's δ: running mean of all rewards.
    pub delta: Option<f64>,
    /// Weighted negative log-likelihood of chosen completions, for objectives whose loss contains
    /// it, in nats.
    pub nll_loss: Option<f64>,
    /// ORPO's log σ of the log odds ratio.
    pub log_odds_ratio: Option<f64>,
    /// ORPO's log odds ratio of chosen over rejected completions.
    pub log_odds_chosen: Option<f64>,
    /// Reward of desirable or chosen completions: β · log-ratio, or, without a reference, the
    /// quantity that the objective ranks by.
    pub rewards_chosen: Option<f64>,
    /// Reward of undesirable or rejected completions.
    pub rewards_rejected: Option<f64>,
    /// Mean reward of desirable or chosen minus that of undesirable or rejected completions.
    pub rewards_margins: Option<f64>,
    /// Share of pairs whose chosen completion has the larger reward; ties count half. None for
    /// unpaired data.
    pub rewards_accuracies: Option<f64>,
    /// log π of desirable or chosen completions, in nats.
    pub logps_chosen: Option<f64>,
    /// log π of undesirable or rejected completions, in nats.
    pub logps_rejected: Option<f64>,
}

impl Metrics {
    /// Computes the metrics that apply to any two classes of completions.
    pub(crate) fn from_classes(
        reward: impl Fn(LogProb) -> f64,
        chosen: &[LogProb],
        rejected: &[LogProb],
    ) -> Self {
        let rewards = |class: &[LogProb]| mean(class.iter().map(|log_prob| reward(*log_prob)));
        let (rewards_chosen, rewards_rejected) = (rewards(chosen), rewards(rejected));
        Self {
            rewards_chosen,
            rewards_rejected,
            rewards_margins: rewards_chosen.zip(rewards_rejected).map(|(chosen, rejected)| chosen - rejected),
            logps_chosen: mean(chosen.iter().map(|log_prob| log_prob.policy)),
            logps_rejected: mean(rejected.iter().map(|log_prob| log_prob.policy)),
            ..Self::default()
        }
    }

    /// Takes each metric that is absent from `other`.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        Self {
            kl: self.kl.or(other.kl),
            kl_unclamped: self.kl_unclamped.or(other.kl_unclamped),
            delta: self.delta.or(other.delta),
            nll_loss: self.nll_loss.or(other.nll_loss),
            log_odds_ratio: self.log_odds_ratio.or(other.log_odds_ratio),
            log_odds_chosen: self.log_odds_chosen.or(other.log_odds_chosen),
            rewards_chosen: self.rewards_chosen.or(other.rewards_chosen),
            rewards_rejected: self.rewards_rejected.or(other.rewards_rejected),
            rewards_margins: self.rewards_margins.or(other.rewards_margins),
            rewards_accuracies: self.rewards_accuracies.or(other.rewards_accuracies),
            logps_chosen: self.logps_chosen.or(other.logps_chosen),
            logps_rejected: self.logps_rejected.or(other.logps_rejected),
        }
    }

    /// Returns the names and values of the metrics that are present.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, f64)> {
        [
            ("kl", self.kl),
            ("kl_unclamped", self.kl_unclamped),
            ("delta", self.delta),
            ("nll_loss", self.nll_loss),
            ("log_odds_ratio", self.log_odds_ratio),
            ("log_odds_chosen", self.log_odds_chosen),
            ("rewards/chosen", self.rewards_chosen),
            ("rewards/rejected", self.rewards_rejected),
            ("rewards/margins", self.rewards_margins),
            ("rewards/accuracies", self.rewards_accuracies),
            ("logps/chosen", self.logps_chosen),
            ("logps/rejected", self.logps_rejected),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)))
    }
}
