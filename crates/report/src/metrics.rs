//! The metrics of `metrics.jsonl` that the report plots over steps.

use prospect_runs::RecordKind;

/// A metric over steps.
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) kind: RecordKind,
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    pub(crate) label: &'static str,
    pub(crate) note: &'static str,
    pub(crate) percent: bool,
    /// A value that others are seen against.
    pub(crate) rule: Option<f64>,
}

const PLAIN: Metric = Metric {
    name: "",
    kind: RecordKind::Train,
    key: "",
    title: "",
    label: "",
    note: "",
    percent: false,
    rule: None,
};

/// The training loss.
pub(crate) const LOSS: Metric = Metric {
    name: "loss",
    key: "loss",
    title: "Training loss",
    label: "loss",
    note: "Losses of different objectives have different scales: compare shapes, not levels.",
    ..PLAIN
};

/// The reward margin of training batches.
pub(crate) const TRAIN_MARGIN: Metric = Metric {
    name: "train-margin",
    key: "rewards/margins",
    title: "Reward margin in training",
    label: "rewards/margins",
    note: "Chosen or desirable minus rejected or undesirable, in the batch.",
    ..PLAIN
};

/// Accuracy on the held-out pairs.
pub(crate) const HELD_OUT_ACCURACY: Metric = Metric {
    name: "held-out-accuracy",
    kind: RecordKind::Eval,
    key: "eval_rewards/accuracies",
    title: "Held-out accuracy in training",
    label: "eval_rewards/accuracies",
    percent: true,
    ..PLAIN
};

/// Reward margin on the held-out pairs.
pub(crate) const HELD_OUT_MARGIN: Metric = Metric {
    name: "held-out-margin",
    kind: RecordKind::Eval,
    key: "eval_rewards/margins",
    title: "Held-out reward margin in training",
    label: "eval_rewards/margins",
    ..PLAIN
};

/// The estimate of KL(policy ‖ reference).
pub(crate) const KL: Metric = Metric {
    name: "kl",
    key: "kl",
    title: "KL estimate in training",
    label: "kl, nats",
    note: "How far the policy has moved from the reference, as the objective estimates it; objectives without such \
           an estimate have no curve.",
    ..PLAIN
};

/// log π of held-out chosen completions.
pub(crate) const CHOSEN: Metric = Metric {
    name: "held-out-chosen",
    kind: RecordKind::Eval,
    key: "eval_logps/chosen",
    title: "Log-likelihood of chosen completions",
    label: "eval_logps/chosen, nats",
    note: "Where this falls while the margin grows, the policy moves probability to completions that nobody judged.",
    ..PLAIN
};

/// log π of held-out rejected completions.
pub(crate) const REJECTED: Metric = Metric {
    name: "held-out-rejected",
    kind: RecordKind::Eval,
    key: "eval_logps/rejected",
    title: "Log-likelihood of rejected completions",
    label: "eval_logps/rejected, nats",
    ..PLAIN
};

/// The share of held-out pairs whose chosen completion has become less likely.
pub(crate) const CHOSEN_FALLEN: Metric = Metric {
    name: "held-out-chosen-fallen",
    kind: RecordKind::Eval,
    key: "eval_logps/chosen_fallen",
    title: "Chosen completions less likely than under the reference",
    label: "share of held-out pairs",
    percent: true,
    ..PLAIN
};

/// The estimate of KL on held-out prompts.
pub(crate) const HELD_OUT_KL: Metric = Metric {
    name: "held-out-kl",
    kind: RecordKind::Eval,
    key: "eval_kl",
    title: "KL estimate on held-out prompts",
    label: "eval_kl, nats",
    note: "The same for all objectives: the mean log-ratio of completions of other prompts, at least 0.",
    ..PLAIN
};

/// How much training steps listen to corrupted rows.
pub(crate) const CORRUPTED_WEIGHT: Metric = Metric {
    name: "corrupted-weight",
    key: "noise/gradient_weight/corrupted",
    title: "Gradient weight of corrupted rows",
    label: "relative to the batch’s mean",
    note: "1 is the weight of an average row: below the line the objective listens less to the rows that noise changed.",
    rule: Some(1.0),
    ..PLAIN
};

/// Rewards of corrupted rows.
pub(crate) const CORRUPTED_REWARD: Metric = Metric {
    name: "corrupted-reward",
    key: "noise/rewards/corrupted",
    title: "Reward of corrupted rows",
    label: "noise/rewards/corrupted",
    note: "Counted towards the labels as they are: above 0 the policy has learnt the noise.",
    rule: Some(0.0),
    ..PLAIN
};

/// Rewards of clean rows.
pub(crate) const CLEAN_REWARD: Metric = Metric {
    name: "clean-reward",
    key: "noise/rewards/clean",
    title: "Reward of clean rows",
    label: "noise/rewards/clean",
    rule: Some(0.0),
    ..PLAIN
};
