//! Metrics of `metrics.jsonl` that the report plots over steps.

use prospect_runs::RecordKind;

/// A metric and its presentation.
pub(crate) struct PlottedMetric {
    /// Name of the figure.
    pub(crate) name: &'static str,
    pub(crate) kind: RecordKind,
    /// Key in `metrics.jsonl`.
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    /// Label of the y axis.
    pub(crate) label: &'static str,
    /// Last sentences of the caption.
    pub(crate) note: &'static str,
    /// Shows values as percentages.
    pub(crate) percent: bool,
    /// Value of a horizontal line for comparison.
    pub(crate) rule: Option<f64>,
}

const DEFAULT: PlottedMetric = PlottedMetric {
    name: "",
    kind: RecordKind::Train,
    key: "",
    title: "",
    label: "",
    note: "",
    percent: false,
    rule: None,
};

/// Training loss.
pub(crate) const LOSS: PlottedMetric = PlottedMetric {
    name: "loss",
    key: "loss",
    title: "Training loss",
    label: "loss",
    note: "Losses of different objectives have different scales: compare their shapes, not their levels.",
    ..DEFAULT
};

/// Reward margin of training batches.
pub(crate) const TRAIN_MARGIN: PlottedMetric = PlottedMetric {
    name: "train-margin",
    key: "rewards/margins",
    title: "Reward margin during training",
    label: "reward margin",
    note: "Mean reward of chosen (or desirable) minus that of rejected (or undesirable) completions in the batch.",
    ..DEFAULT
};

/// Accuracy on the held-out pairs.
pub(crate) const HELD_OUT_ACCURACY: PlottedMetric = PlottedMetric {
    name: "held-out-accuracy",
    kind: RecordKind::Eval,
    key: "eval_rewards/accuracies",
    title: "Held-out accuracy during training",
    label: "held-out accuracy",
    note: "The dashed line is chance.",
    percent: true,
    rule: Some(0.5),
};

/// AUC of the reward on the held-out thumbs.
pub(crate) const HELD_OUT_AUC: PlottedMetric = PlottedMetric {
    name: "held-out-auc",
    kind: RecordKind::Eval,
    key: "eval_thumbs/auc",
    title: "Held-out AUC during training",
    label: "held-out AUC",
    note: "Probability that a random held-out thumb up has a higher reward than a random thumb down.",
    percent: true,
    rule: Some(0.5),
};

/// Reward margin on the held-out pairs.
pub(crate) const HELD_OUT_MARGIN: PlottedMetric = PlottedMetric {
    name: "held-out-margin",
    kind: RecordKind::Eval,
    key: "eval_rewards/margins",
    title: "Held-out reward margin during training",
    label: "reward margin",
    ..DEFAULT
};

/// The estimate that KTO's reference point z0 clamps at 0.
pub(crate) const KL: PlottedMetric = PlottedMetric {
    name: "kl",
    key: "kl_unclamped",
    title: "Log-ratio of mismatched completions during training",
    label: "mean log-ratio, nats",
    note: "Mean log-ratio of completions paired with other prompts. KTO’s reference point z0 is this number, clamped at \
           0; objectives without a reference point have no curve.",
    rule: Some(0.0),
    ..DEFAULT
};

/// log π of held-out chosen completions.
pub(crate) const CHOSEN: PlottedMetric = PlottedMetric {
    name: "held-out-chosen",
    kind: RecordKind::Eval,
    key: "eval_logps/chosen",
    title: "Log-likelihood of chosen completions",
    label: "log π of chosen, nats",
    note: "If this falls while the margin grows, the policy moves probability mass to completions outside the dataset.",
    ..DEFAULT
};

/// log π of held-out rejected completions.
pub(crate) const REJECTED: PlottedMetric = PlottedMetric {
    name: "held-out-rejected",
    kind: RecordKind::Eval,
    key: "eval_logps/rejected",
    title: "Log-likelihood of rejected completions",
    label: "log π of rejected, nats",
    ..DEFAULT
};

/// Share of held-out pairs whose chosen completion became less likely.
pub(crate) const CHOSEN_FALLEN: PlottedMetric = PlottedMetric {
    name: "held-out-chosen-fallen",
    kind: RecordKind::Eval,
    key: "eval_logps/chosen_fallen",
    title: "Chosen completions less likely than under the reference",
    label: "share of held-out pairs",
    percent: true,
    ..DEFAULT
};

/// Log-ratio of mismatched completions on held-out prompts.
pub(crate) const HELD_OUT_KL: PlottedMetric = PlottedMetric {
    name: "held-out-kl",
    kind: RecordKind::Eval,
    key: "eval_kl_unclamped",
    title: "Log-ratio of mismatched completions on held-out prompts",
    label: "mean log-ratio, nats",
    note: "Mean log-ratio of completions paired with other prompts, for all objectives, not clamped. It estimates the KL \
           divergence from texts that the policy did not write, and can be negative.",
    rule: Some(0.0),
    ..DEFAULT
};

/// Gradient weight of corrupted rows.
pub(crate) const CORRUPTED_WEIGHT: PlottedMetric = PlottedMetric {
    name: "corrupted-weight",
    key: "noise/gradient_weight/corrupted",
    title: "Gradient weight of corrupted rows",
    label: "relative to the batch mean",
    note: "1 is the weight of an average row; below it, the objective down-weights corrupted rows.",
    rule: Some(1.0),
    ..DEFAULT
};

/// Rewards of corrupted rows.
pub(crate) const CORRUPTED_REWARD: PlottedMetric = PlottedMetric {
    name: "corrupted-reward",
    key: "noise/rewards/corrupted",
    title: "Reward of corrupted rows",
    label: "reward",
    note: "Signed by the corrupted labels: above 0, the policy has fitted the noise.",
    rule: Some(0.0),
    ..DEFAULT
};

/// Rewards of clean rows.
pub(crate) const CLEAN_REWARD: PlottedMetric = PlottedMetric {
    name: "clean-reward",
    key: "noise/rewards/clean",
    title: "Reward of clean rows",
    label: "reward",
    rule: Some(0.0),
    ..DEFAULT
};
