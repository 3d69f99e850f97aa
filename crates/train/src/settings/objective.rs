//! Objectives with their options.

use prospect_objective::{
    Bco, ClassCounts, ClassWeight, ClassWeights, Dpo, Hinge, Ipo, LogProb, Orpo, Simpo, Slic, SmoothedDpo,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Class weights λ_D and λ_U, before `auto` is resolved from the training data.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClassWeighting {
    /// λ_D.
    pub desirable_weight: ClassWeight,
    /// λ_U.
    pub undesirable_weight: ClassWeight,
    /// Target of `auto` for (λ_D·n_D)/(λ_U·n_U).
    pub class_balance: f64,
}

/// Scope of KTO's reference point z0: the mismatched completions that it averages over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Z0 {
    /// The global batch. Exact, and independent of the micro-batch size.
    Global,
    /// The micro-batch, as in TRL. `micro_batch_size` then changes the method.
    MicroBatch,
    /// One device's share of the global batch, divided by this number of devices. Reproduces runs
    /// of the paper's code.
    DividedByWorldSize(usize),
}

impl Z0 {
    /// Returns the number of examples that share a reference point, in a global batch of `batch`.
    pub(crate) fn group_size(self, batch: usize, micro_batch: usize) -> usize {
        match self {
            Self::Global => batch,
            Self::MicroBatch => micro_batch,
            Self::DividedByWorldSize(devices) => batch.div_ceil(devices),
        }
        .max(1)
    }

    /// Divisor of the clamped mean.
    pub(crate) fn divisor(self) -> f64 {
        if let Self::DividedByWorldSize(devices) = self { devices as f64 } else { 1.0 }
    }
}

/// Control texts of conditional SFT, one per label.
///
/// A control text ends the prompt, as plain text, and is not scored. Policies are sampled with the
/// desirable one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ControlTokens {
    /// Text before desirable completions, and for sampling.
    pub desirable: String,
    /// Text before undesirable completions.
    pub undesirable: String,
}

impl Default for ControlTokens {
    fn default() -> Self {
        Self { desirable: "<|good|>".to_owned(), undesirable: "<|bad|>".to_owned() }
    }
}

/// Feedback format that an objective trains on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedbackFormat {
    /// Completions with binary labels.
    Unpaired,
    /// Pairs of a chosen and a rejected completion.
    Paired,
    /// Desirable completions.
    Desirable,
    /// All completions.
    All,
}

/// Objective with its options. Variants are those of [`ObjectiveName`](crate::ObjectiveName).
#[derive(Debug, Clone, PartialEq, Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[expect(missing_docs, reason = "the variants are those of ObjectiveName")]
pub enum Objective {
    Kto {
        /// β.
        beta: f64,
        /// λ_D and λ_U.
        #[serde(flatten)]
        weighting: ClassWeighting,
        /// Scope of the reference point.
        z0: Z0,
        /// Mismatched completions per example.
        kl_partners: usize,
    },
    ApoZeroUnpaired {
        /// β.
        beta: f64,
        /// λ_D and λ_U.
        #[serde(flatten)]
        weighting: ClassWeighting,
    },
    Bco(Bco),
    Dpo(Dpo),
    Cdpo(SmoothedDpo),
    RobustDpo(SmoothedDpo),
    Hinge(Hinge),
    Ipo(Ipo),
    Simpo(Simpo),
    Orpo(Orpo),
    Slic(Slic),
    Sft,
    Csft(ControlTokens),
}

impl Objective {
    /// Name, as in `objective: kto`.
    pub fn name(&self) -> &'static str {
        self.into()
    }

    /// Resolves class weights for training data with `counts` rows. Returns `None` for objectives
    /// without class weights.
    pub fn class_weights(&self, counts: ClassCounts) -> Option<ClassWeights> {
        match self {
            Self::Kto { weighting, .. } | Self::ApoZeroUnpaired { weighting, .. } => {
                let ClassWeighting { desirable_weight, undesirable_weight, class_balance } = *weighting;
                let weights =
                    ClassWeights::resolve(desirable_weight, undesirable_weight, counts, class_balance);
                Some(weights)
            }
            _ => None,
        }
    }

    /// β, the factor from log-ratios to rewards; 1 for objectives without β.
    pub fn beta(&self) -> f64 {
        match self {
            Self::Kto { beta, .. }
            | Self::ApoZeroUnpaired { beta, .. }
            | Self::Bco(Bco { beta })
            | Self::Dpo(Dpo { beta })
            | Self::Cdpo(SmoothedDpo { beta, .. })
            | Self::RobustDpo(SmoothedDpo { beta, .. })
            | Self::Hinge(Hinge { beta })
            | Self::Ipo(Ipo { beta })
            | Self::Simpo(Simpo { beta, .. })
            | Self::Orpo(Orpo { beta })
            | Self::Slic(Slic { beta, .. }) => *beta,
            Self::Sft | Self::Csft(_) => 1.0,
        }
    }

    /// Feedback format of the training data.
    pub fn feedback_format(&self) -> FeedbackFormat {
        match self {
            Self::Kto { .. } | Self::ApoZeroUnpaired { .. } | Self::Bco(_) => FeedbackFormat::Unpaired,
            Self::Dpo(_)
            | Self::Cdpo(_)
            | Self::RobustDpo(_)
            | Self::Hinge(_)
            | Self::Ipo(_)
            | Self::Simpo(_)
            | Self::Orpo(_)
            | Self::Slic(_) => FeedbackFormat::Paired,
            Self::Sft => FeedbackFormat::Desirable,
            Self::Csft(_) => FeedbackFormat::All,
        }
    }

    /// Returns true if the loss depends on the reference.
    pub fn needs_reference(&self) -> bool {
        !matches!(self, Self::Simpo(_) | Self::Orpo(_) | Self::Slic(_) | Self::Sft | Self::Csft(_))
    }

    /// Score that an objective without a reference ranks completions by, in nats: the mean log-prob
    /// of a token, which SimPO, ORPO (by its odds), SFT and conditional SFT raise, or the log-prob of
    /// the completion (SLiC). None with a reference, where it is the log-ratio.
    pub fn own_score(&self, log_prob: LogProb) -> Option<f64> {
        match self {
            Self::Simpo(_) | Self::Orpo(_) | Self::Sft | Self::Csft(_) => Some(log_prob.mean()),
            Self::Slic(_) => Some(log_prob.policy),
            _ => None,
        }
    }

    /// Control text for a label, at the end of the prompt. Empty except for conditional SFT.
    pub fn control(&self, desirable: bool) -> &str {
        match self {
            Self::Csft(control) if desirable => &control.desirable,
            Self::Csft(control) => &control.undesirable,
            _ => "",
        }
    }
}
