//! Results of a sweep: `summary.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use strum::Display;

use crate::Opponent;

/// `summary.json`: the results of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The result in a few sentences, with intervals.
    pub verdict: String,
    /// Definition of accuracies, intervals and significance, in sentences.
    pub method: String,
    /// Estimates for every series and x.
    pub points: Vec<Point>,
    /// Differences from the baseline series.
    pub contrasts: Vec<Contrast>,
    /// Win rates by judge, opponent, series and x.
    #[serde(default)]
    pub win_rates: Vec<WinRate>,
    /// Differences of win rates from the baseline series, by judge and opponent.
    #[serde(default)]
    pub win_rate_contrasts: Vec<WinRateContrast>,
    /// Means of imported scores by judge, task, series and x.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scores: Vec<ScoreMean>,
    /// Differences of imported scores from the baseline series.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub score_contrasts: Vec<ScoreContrast>,
    /// KL divergence and rewards of samples along training, by series, x and step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frontier: Vec<FrontierPoint>,
    /// Changes of scores on capability tests during training, by test, series and x.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retention: Vec<Retention>,
    /// Learning curves, if the x axis is the number of training prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_curves: Option<LearningCurves>,
    /// Probable faults of runs, in the order of the plan.
    pub findings: Vec<Finding>,
    /// Properties of series that are worth knowing and no faults, in sentences.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Trials of a search by series, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trials: Vec<TrialResult>,
    /// Headline measure of the true utility itself, if the data has one.
    pub oracle_accuracy: Option<f64>,
    /// Accuracy of the model before preference training by its own log-probs (not log-ratios).
    pub start_accuracy: Option<f64>,
}

/// A value with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Point estimate.
    pub value: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end of the 95 % interval.
    pub high: f64,
}

impl Estimate {
    /// Restricts the interval to the values that are possible.
    ///
    /// ```
    /// let share = prospect_runs::Estimate { value: 0.97, low: 0.9, high: 1.04 };
    /// assert_eq!(share.clamped(0.0, 1.0).high, 1.0);
    /// ```
    #[must_use]
    pub fn clamped(self, least: f64, most: f64) -> Self {
        Self { low: self.low.max(least), high: self.high.min(most), ..self }
    }
}

/// Held-out results of one series at one x, over seeds and pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Series, such as `kto`.
    pub series: String,
    /// Value of the x axis.
    pub x: f64,
    /// Preference accuracy as a share of pairs, with its interval over seeds and prompts; None if
    /// the held-out feedback has no pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Estimate>,
    /// Smoothed accuracy: mean of Φ(margin / root mean square of the run's margins) over pairs,
    /// with its interval. It counts how clearly a pair is ranked and does not depend on the
    /// margins' scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smoothed_accuracy: Option<Estimate>,
    /// Preference accuracy by the score that the objective ranks by, with its interval; None if
    /// that is the log-ratio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_accuracy: Option<Estimate>,
    /// Measures of the held-out thumbs; None if they do not have both labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbs: Option<ThumbEstimates>,
    /// Headline measure of each seed: accuracy, or AUC without pairs.
    pub seeds: Vec<f64>,
    /// Mean true utility of generations for held-out prompts, if the data has one.
    pub utility: Option<Estimate>,
    /// Mean reward margin β·(log-ratio chosen − rejected) of pairs, or β times the difference of
    /// the mean log-ratios of thumbs up and down without pairs, with its interval.
    pub margin: Estimate,
    /// Optimizer steps of the first seed's run.
    pub steps: u64,
    /// Calibration over the pairs of all seeds.
    pub calibration: Option<Calibration>,
}

impl Point {
    /// Headline measure: preference accuracy, or the AUC if there are no pairs.
    ///
    /// Both are the probability that a preferred completion has the larger reward. The AUC
    /// compares completions of different prompts, the accuracy those of one prompt.
    pub fn headline(&self) -> Option<(Measure, Estimate)> {
        let auc = || Some((Measure::Auc, self.thumbs.as_ref()?.auc));
        self.accuracy.map(|accuracy| (Measure::Accuracy, accuracy)).or_else(auc)
    }
}

/// Measures of held-out thumbs, over seeds and clusters of thumbs. Intervals are clustered by
/// prompt and, if the data has groups, by group; the wider one is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThumbEstimates {
    /// Thumbs up.
    pub desirable: usize,
    /// Thumbs down.
    pub undesirable: usize,
    /// Prompts.
    pub prompts: usize,
    /// Users or conversations, if the data has groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<usize>,
    /// Probability that a random thumb up has a larger reward than a random thumb down (AUC).
    pub auc: Estimate,
    /// Mean AUC within prompts that have both labels; None without such prompts.
    pub auc_within_prompt: Option<Estimate>,
    /// Balanced accuracy of calling a completion desirable if its log-ratio exceeds z0.
    pub balanced_accuracy: Estimate,
    /// Log loss in nats after Platt scaling on training rows; None where it was not fitted.
    pub log_loss: Option<Estimate>,
    /// Brier skill score over the base rate after Platt scaling; None where it was not fitted.
    pub brier_skill: Option<Estimate>,
    /// AUC of the completion's length alone, oriented on training rows.
    pub length_auc: Option<f64>,
    /// AUC of the prompt's words alone (naive Bayes on training rows).
    pub prompt_auc: Option<f64>,
    /// Reliability of the probabilities, over the thumbs of all seeds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reliability: Vec<ReliabilityBin>,
}

/// Thumbs of similar probability.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Lower edge.
    pub low: f64,
    /// Upper edge.
    pub high: f64,
    /// Number of thumbs.
    pub thumbs: usize,
    /// Mean probability of a thumb up.
    pub probability: f64,
    /// Share of thumbs up.
    pub desirable: f64,
}

/// Confidence of preferences compared with their accuracy, over held-out pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Expected calibration error: mean of |confidence − accuracy| over bins, weighted by pairs.
    pub error: f64,
    /// Nonempty bins by rising confidence.
    pub bins: Vec<CalibrationBin>,
}

/// Pairs of similar confidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationBin {
    /// Lower edge, at least ½.
    pub low: f64,
    /// Upper edge, at most 1.
    pub high: f64,
    /// Number of pairs.
    pub pairs: usize,
    /// Mean confidence.
    pub confidence: f64,
    /// Share of pairs whose chosen completion has the larger reward.
    pub accuracy: f64,
}

/// Quantity that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Measure {
    /// Share of held-out pairs whose chosen completion has the larger reward.
    Accuracy,
    /// Probability that a random held-out thumb up has a larger reward than a random thumb down,
    /// if there are no pairs.
    Auc,
    /// True utility of generations for held-out prompts, if the data has one.
    Utility,
}

impl Measure {
    /// True for the measures of held-out feedback, of which a sweep has one: accuracy on pairs, or
    /// AUC without pairs.
    pub fn is_headline(self) -> bool {
        self != Self::Utility
    }
}

/// Difference of two series at one x, paired by seed and held-out pair (or prompt).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contrast {
    /// Series that is compared.
    pub series: String,
    /// Series that it is compared with.
    pub baseline: String,
    /// Value of the x axis.
    pub x: f64,
    /// Quantity that is compared.
    pub measure: Measure,
    /// Value of `series` minus value of `baseline`.
    pub difference: Estimate,
    /// The difference with its interval at the level that its verdict uses: that of its step of
    /// Holm's method. The interval excludes 0 exactly where `p_holm` is below 0.05. None with one
    /// seed.
    #[serde(default)]
    pub adjusted: Option<Estimate>,
    /// Unadjusted p-value of the difference.
    pub p: f64,
    /// P-value after Holm's adjustment for all planned contrasts of the sweep; unadjusted for the
    /// primary one.
    pub p_holm: f64,
    /// Conclusion from `p_holm`.
    pub verdict: Verdict,
    /// Reason why there is no verdict whatever the p-value, if there is one.
    #[serde(default)]
    pub no_verdict: Option<NoVerdict>,
    /// True difference that the comparison detects with 80 % power at the level used: that of the
    /// first step of Holm's method, or 0.05 for the primary contrast. None with one seed.
    #[serde(default)]
    pub detectable: Option<f64>,
    /// True for the contrast that the experiment declares as its primary one.
    #[serde(default)]
    pub is_primary: bool,
    /// Series at the same x whose runs have the same results, which makes this contrast a
    /// repetition.
    #[serde(default)]
    pub identical_to: Option<String>,
    /// Difference in smoothed accuracy, for contrasts of accuracy.
    #[serde(default)]
    pub smoothed: Option<Estimate>,
    /// Optimizer steps of the first seed's run of `series` and of `baseline`.
    #[serde(default)]
    pub steps: [u64; 2],
    /// Runs of `series` and of `baseline` that failed or were stopped.
    #[serde(default)]
    pub lost_runs: [usize; 2],
    /// Number of seeds that both series have.
    pub seeds: usize,
    /// Number of held-out pairs, or of prompts with generations.
    pub pairs: usize,
}

/// Conclusion of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Verdict {
    /// The series is significantly better than the baseline.
    #[serde(alias = "ahead")]
    Better,
    /// The series is significantly worse than the baseline.
    #[serde(alias = "behind")]
    Worse,
    /// The difference is not significant, or there is no verdict.
    #[serde(alias = "cannot_tell")]
    Inconclusive,
}

/// Reason why a comparison has no verdict, whatever its p-value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoVerdict {
    /// With one seed, the variance between seeds is unknown.
    OneSeed,
    /// The interval is too wide to tell good methods from bad ones.
    TooWide,
    /// The series that looks better has lost runs, and the others may be the luckier ones.
    LostRuns,
    /// The runs are identical to those of another series.
    Identical,
    /// Neither series ranks held-out feedback better than chance.
    NotLearnt,
}

/// Kind of fault that metrics indicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// The loss per class or the gradient norm jumps again and again.
    Unstable,
    /// Held-out feedback is ranked no better than by chance.
    NoLearning,
    /// Completions of the policy are very unlikely under the reference.
    RanAway,
    /// Generations lose their diversity.
    ModeCollapse,
    /// Generations no longer end.
    NoLongerEnds,
    /// Generations become long.
    LengthBlowUp,
}

/// A probable fault of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Id of the run.
    pub run: String,
    /// Kind of fault.
    pub sign: Sign,
    /// Metric values that indicate it, in a sentence.
    pub evidence: String,
    /// First and last optimizer step concerned.
    pub steps: [u64; 2],
    /// Recommended checks and changes.
    pub advice: String,
}

/// Share of a series' generations at one x that a judge prefers, over seeds and prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WinRate {
    /// Name of the judge.
    pub judge: String,
    /// Completions that the generations were compared with.
    pub opponent: Opponent,
    /// Series.
    pub series: String,
    /// Value of the x axis.
    pub x: f64,
    /// Wins plus half of the ties, as a share of comparisons, with its interval over seeds and
    /// prompts.
    pub rate: Estimate,
    /// Wins as a share of wins and losses, with its interval over seeds and prompts; None without
    /// wins and losses.
    pub decided: Option<Estimate>,
    /// Wins as a share of all comparisons, ties and unreadable answers included, as in the KTO
    /// paper. The interval is the exact binomial one of 90 %, as if comparisons were independent.
    /// None in summaries of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wins_of_all: Option<Estimate>,
    /// Win rate that a logistic regression predicts for completions as long as the opponent's, with
    /// its interval over seeds and prompts; None if lengths are unknown or do not overlap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length_controlled: Option<Estimate>,
    /// Mean characters of the generations and of the opponent's completions, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub characters: Option<[f64; 2]>,
    /// Comparisons won.
    pub wins: u64,
    /// Comparisons tied.
    pub ties: u64,
    /// Comparisons lost.
    pub losses: u64,
    /// Comparisons whose answer cannot be read; no other count includes them.
    pub unread: u64,
    /// P-value of the rate against one half.
    pub p: f64,
    /// P-value after Holm's adjustment for all rates of the judge.
    pub p_holm: f64,
    /// Conclusion from `p_holm`.
    pub verdict: Verdict,
}

/// Difference of two series' win rates at one x against the same opponent, paired by seed and
/// prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WinRateContrast {
    /// Name of the judge.
    pub judge: String,
    /// Completions that the generations of both series were compared with.
    pub opponent: Opponent,
    /// Series that is compared.
    pub series: String,
    /// Series that it is compared with.
    pub baseline: String,
    /// Value of the x axis.
    pub x: f64,
    /// Win rate of `series` minus that of `baseline`.
    pub difference: Estimate,
    /// Unadjusted p-value of the difference.
    pub p: f64,
    /// P-value after Holm's adjustment for all such differences of the judge against the opponent.
    pub p_holm: f64,
    /// Conclusion from `p_holm`.
    pub verdict: Verdict,
    /// Number of seeds that both series have.
    pub seeds: usize,
    /// Number of prompts with a score under every seed of both series.
    pub prompts: usize,
}

/// Accuracy over the number of training rows, extrapolated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LearningCurves {
    /// Reasons why there are no curves, or none of some series, and what intervals do not cover, in
    /// sentences.
    pub notes: Vec<String>,
    /// Curves by series.
    pub curves: Vec<LearningCurve>,
}

/// Learning curve of one series: the power law `limit − b·rows^(−exponent)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LearningCurve {
    /// Series.
    pub series: String,
    /// Quantity: accuracy, or AUC without pairs.
    pub measure: Measure,
    /// Value at infinitely many training rows, by the fitted law. It has no interval and is no
    /// prediction.
    pub limit: f64,
    /// Exponent of the fitted law.
    pub exponent: f64,
    /// Measured sizes.
    pub measured: Vec<LearningPoint>,
    /// Predictions for further sizes.
    pub predicted: Vec<LearningPoint>,
}

impl LearningCurve {
    /// Returns the measured sizes, then the predicted ones.
    pub fn points(&self) -> impl Iterator<Item = &LearningPoint> {
        self.measured.iter().chain(&self.predicted)
    }

    /// Returns the largest measured number of training rows.
    #[must_use]
    pub fn largest(&self) -> f64 {
        self.measured.iter().map(|point| point.rows).fold(0.0, f64::max)
    }
}

/// Value at one number of training rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LearningPoint {
    /// Training rows: pairs, or completions for methods that train on thumbs.
    pub rows: f64,
    /// Measured or predicted value with its 95 % interval.
    pub value: Estimate,
    /// Predicted gain over the largest measured size; None for measured sizes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain: Option<Estimate>,
}

/// Mean of one series' imported scores at one x on one task, over seeds and questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreMean {
    /// Name of the tool or of the judge.
    pub judge: String,
    /// Task and metric.
    pub task: String,
    /// Series.
    pub series: String,
    /// Value of the x axis.
    pub x: f64,
    /// Mean with its interval over seeds and questions.
    pub mean: Estimate,
    /// True if all scores of the task are shares between 0 and 1.
    pub is_share: bool,
    /// True if less is better.
    pub lower_is_better: bool,
    /// Number of seeds.
    pub seeds: usize,
    /// Number of questions with a score under every seed.
    pub questions: usize,
}

/// Difference of two series' imported scores at one x on one task, paired by seed and question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreContrast {
    /// Name of the tool or of the judge.
    pub judge: String,
    /// Task and metric.
    pub task: String,
    /// Series that is compared.
    pub series: String,
    /// Series that it is compared with.
    pub baseline: String,
    /// Value of the x axis.
    pub x: f64,
    /// Mean score of `series` minus that of `baseline`.
    pub difference: Estimate,
    /// True if all scores of the task are shares between 0 and 1.
    pub is_share: bool,
    /// Unadjusted p-value of the difference.
    pub p: f64,
    /// P-value after Holm's adjustment for all tasks and series of the judge.
    pub p_holm: f64,
    /// Conclusion from `p_holm`.
    pub verdict: Verdict,
    /// True difference that the comparison detects with 80 % power at the level of the first step of
    /// Holm's method. None with one seed.
    pub detectable: Option<f64>,
    /// Number of seeds that both series have.
    pub seeds: usize,
    /// Number of questions with a score under every seed of both series.
    pub questions: usize,
}

/// Samples of one series at one x after one step of training: their distance from the reference
/// and their rewards, over seeds and prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrontierPoint {
    /// Series.
    pub series: String,
    /// Value of the x axis.
    pub x: f64,
    /// Optimizer steps done, of the first seed's run.
    pub step: u64,
    /// True for the end of training.
    pub is_last: bool,
    /// KL divergence of completions from the reference, in nats. At step 0 it is 0 by definition.
    pub kl: Estimate,
    /// Rewards of the same completions.
    pub rewards: Vec<FrontierReward>,
    /// Number of seeds.
    pub seeds: usize,
    /// Number of prompts.
    pub prompts: usize,
}

impl FrontierPoint {
    /// Square root of the KL divergence with its interval.
    pub fn root_kl(&self) -> Estimate {
        let root = |kl: f64| kl.max(0.0).sqrt();
        Estimate { value: root(self.kl.value), low: root(self.kl.low), high: root(self.kl.high) }
    }

    /// Mean reward of a kind, if it was measured.
    pub fn reward(&self, kind: &RewardKind) -> Option<Estimate> {
        self.rewards.iter().find(|reward| reward.kind == *kind).map(|reward| reward.mean)
    }
}

/// A reward of sampled completions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrontierReward {
    /// Kind of reward.
    pub kind: RewardKind,
    /// Mean over seeds and prompts, with its interval.
    pub mean: Estimate,
}

/// Measure of how good a completion is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardKind {
    /// True utility, which a synthetic world defines.
    Utility,
    /// Reward of the judge with this name, minus that of the preferred completion.
    Reward(String),
    /// Win rate against the preferred completions, according to the judge with this name.
    WinRate(String),
}

/// Change of a score on a capability test during training, of one series at one x, paired by seed
/// and question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retention {
    /// Name of the test.
    pub test: String,
    /// Name of the score, such as `acc_norm`.
    pub score: String,
    /// True for the score that stands for its test. Only such scores have a verdict.
    pub is_headline: bool,
    /// Series.
    pub series: String,
    /// Value of the x axis.
    pub x: f64,
    /// Mean score of the weights that training started from.
    pub start: Estimate,
    /// Mean score after training, with its interval over seeds and questions.
    pub trained: Estimate,
    /// Score after training minus score of the start.
    pub change: Estimate,
    /// The change with its interval at the level that its verdict uses. None with one seed, and for
    /// scores that are no headline.
    #[serde(default)]
    pub adjusted: Option<Estimate>,
    /// Unadjusted p-value of the change.
    pub p: f64,
    /// P-value after Holm's adjustment for all headline scores of the sweep; None for other scores.
    #[serde(default)]
    pub p_holm: Option<f64>,
    /// Conclusion from `p_holm`: worse for a loss.
    pub verdict: Verdict,
    /// Reason why there is no verdict whatever the p-value, if there is one.
    #[serde(default)]
    pub no_verdict: Option<NoVerdict>,
    /// True change that would be detected with 80 % power at the level used. None with one seed, and
    /// for scores that are no headline.
    #[serde(default)]
    pub detectable: Option<f64>,
    /// The result in words, such as `dpo loses 1.2 points on arc (0.3 to 2.1)`.
    pub words: String,
    /// Number of seeds.
    pub seeds: usize,
    /// Number of questions.
    pub questions: usize,
}

/// Result of one trial of a search, at the last rung reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialResult {
    /// Series.
    pub series: String,
    /// Swept and drawn settings.
    pub settings: BTreeMap<String, Value>,
    /// Last rung with a result, counted from 1.
    pub rung: usize,
    /// Mean accuracy at that rung on the prompts that trials are ranked on.
    pub accuracy: f64,
    /// Number of seeds.
    pub seeds: usize,
    /// True if the trial has won.
    pub won: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_of_earlier_versions_can_be_read() {
        let read = |text: &str| serde_json::from_str::<Verdict>(text).unwrap();
        assert_eq!(
            ["\"ahead\"", "\"behind\"", "\"cannot_tell\"", "\"better\""].map(read),
            [Verdict::Better, Verdict::Worse, Verdict::Inconclusive, Verdict::Better]
        );
    }

    #[test]
    fn intervals_end_where_their_values_do() {
        let estimate = Estimate { value: 0.97, low: 0.9, high: 1.04 };
        assert_eq!(estimate.clamped(0.0, 1.0), Estimate { high: 1.0, ..estimate });
        let low = Estimate { low: -0.1, ..estimate };
        assert_eq!(low.clamped(0.0, 1.0), Estimate { low: 0.0, high: 1.0, ..estimate });
        assert_eq!(estimate.clamped(-3.0, 3.0), estimate);
        assert_eq!(estimate.clamped(f64::NEG_INFINITY, f64::INFINITY), estimate);
    }
}
