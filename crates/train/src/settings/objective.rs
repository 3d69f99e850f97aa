//! Objectives with their options.

use prospect_objective::{
    Bco, ClassCounts, ClassWeight, ClassWeights, Dpo, Exo, Hinge, Ipo, KtoValue, LogProb, Orpo, Ppo, Simpo,
    Slic, SmoothedDpo,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::is_default;

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
    /// The micro-batch, with its completions shifted by one, as in the paper (versions 4 and 5) and
    /// in TRL. `micro_batch_size` then changes the method.
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
        /// Value function.
        #[serde(skip_serializing_if = "is_default")]
        value_function: KtoValue,
        /// Uses log π in place of log-ratios.
        #[serde(skip_serializing_if = "is_default")]
        reference_free: bool,
    },
    ApoZeroUnpaired {
        /// β.
        beta: f64,
        /// λ_D and λ_U.
        #[serde(flatten)]
        weighting: ClassWeighting,
    },
    Bco(Bco),
    Ppo(Ppo),
    Dpo(Dpo),
    Cdpo(SmoothedDpo),
    RobustDpo(SmoothedDpo),
    Hinge(Hinge),
    Ipo(Ipo),
    ApoZero(Dpo),
    ApoDown(Dpo),
    ExoPair(Exo),
    NcaPair(Dpo),
    SppoHard(Dpo),
    Aot(SmoothedDpo),
    AotUnpaired(SmoothedDpo),
    Simpo(Simpo),
    Orpo(Orpo),
    Slic(Slic),
    Sft,
    Csft(ControlTokens),
    /// A weighted sum of objectives on the same feedback, in the order of their names.
    Sum {
        /// β of the first part that has one.
        #[serde(skip_serializing_if = "Option::is_none")]
        beta: Option<f64>,
        /// Parts: two or more.
        parts: Vec<WeightedObjective>,
    },
}

/// One part of a weighted sum of objectives.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WeightedObjective {
    /// Weight of its loss.
    pub weight: f64,
    /// The objective.
    pub objective: Objective,
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
            Self::Sum { parts, .. } => parts.iter().find_map(|part| part.objective.class_weights(counts)),
            _ => None,
        }
    }

    /// β, the factor from log-ratios to rewards; 1 for objectives without β.
    pub fn beta(&self) -> f64 {
        self.own_beta().unwrap_or(1.0)
    }

    /// β of objectives that have it.
    pub(super) fn own_beta(&self) -> Option<f64> {
        match self {
            Self::Kto { beta, .. }
            | Self::ApoZeroUnpaired { beta, .. }
            | Self::Bco(Bco { beta })
            | Self::Dpo(Dpo { beta })
            | Self::Cdpo(SmoothedDpo { beta, .. })
            | Self::RobustDpo(SmoothedDpo { beta, .. })
            | Self::Hinge(Hinge { beta })
            | Self::Ipo(Ipo { beta })
            | Self::ApoZero(Dpo { beta })
            | Self::ApoDown(Dpo { beta })
            | Self::ExoPair(Exo { beta, .. })
            | Self::NcaPair(Dpo { beta })
            | Self::SppoHard(Dpo { beta })
            | Self::Aot(SmoothedDpo { beta, .. })
            | Self::AotUnpaired(SmoothedDpo { beta, .. })
            | Self::Simpo(Simpo { beta, .. })
            | Self::Orpo(Orpo { beta })
            | Self::Slic(Slic { beta, .. }) => Some(*beta),
            Self::Sum { beta, .. } => *beta,
            Self::Ppo(_) | Self::Sft | Self::Csft(_) => None,
        }
    }

    /// Feedback format of the training data. In a sum, supervised parts use that of the others.
    pub fn feedback_format(&self) -> FeedbackFormat {
        match self {
            Self::Kto { .. } | Self::ApoZeroUnpaired { .. } | Self::Bco(_) | Self::Ppo(_) => {
                FeedbackFormat::Unpaired
            }
            Self::Dpo(_)
            | Self::Cdpo(_)
            | Self::RobustDpo(_)
            | Self::Hinge(_)
            | Self::Ipo(_)
            | Self::ApoZero(_)
            | Self::ApoDown(_)
            | Self::ExoPair(_)
            | Self::NcaPair(_)
            | Self::SppoHard(_)
            | Self::Aot(_)
            | Self::AotUnpaired(_)
            | Self::Simpo(_)
            | Self::Orpo(_)
            | Self::Slic(_) => FeedbackFormat::Paired,
            Self::Sft => FeedbackFormat::Desirable,
            Self::Csft(_) => FeedbackFormat::All,
            Self::Sum { parts, .. } => {
                let mut formats = parts.iter().map(|part| part.objective.feedback_format());
                formats
                    .find(|format| *format != FeedbackFormat::Desirable)
                    .unwrap_or(FeedbackFormat::Desirable)
            }
        }
    }

    /// Returns true if the loss depends on the reference.
    pub fn needs_reference(&self) -> bool {
        match self {
            Self::Simpo(_) | Self::Orpo(_) | Self::Slic(_) | Self::Sft | Self::Csft(_) => false,
            Self::Kto { reference_free, .. } => !reference_free,
            Self::Sum { parts, .. } => parts.iter().any(|part| part.objective.needs_reference()),
            _ => true,
        }
    }

    /// Mismatched completions per example, for KTO's reference point; 0 for other objectives.
    pub fn kl_partners(&self) -> usize {
        match self {
            Self::Kto { kl_partners, .. } => *kl_partners,
            Self::Sum { parts, .. } => {
                parts.iter().map(|part| part.objective.kl_partners()).max().unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// Scope of KTO's reference point; `None` for other objectives.
    pub(crate) fn z0(&self) -> Option<Z0> {
        match self {
            Self::Kto { z0, .. } => Some(*z0),
            Self::Sum { parts, .. } => parts.iter().find_map(|part| part.objective.z0()),
            _ => None,
        }
    }

    /// Score that an objective without a reference ranks completions by, in nats: the mean log-prob
    /// of a token, which SimPO, ORPO (by its odds), SFT and conditional SFT raise, or the log-prob
    /// of the completion (SLiC, KTO without a reference). A sum has the score of its first part.
    /// None with a reference, where it is the log-ratio.
    pub fn own_score(&self, log_prob: LogProb) -> Option<f64> {
        match self {
            Self::Simpo(_) | Self::Orpo(_) | Self::Sft | Self::Csft(_) => Some(log_prob.mean()),
            Self::Slic(_) | Self::Kto { reference_free: true, .. } => Some(log_prob.policy),
            Self::Sum { parts, .. } if !self.needs_reference() => {
                parts.first().and_then(|part| part.objective.own_score(log_prob))
            }
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
