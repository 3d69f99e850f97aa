//! What is minimised, with the options that have an effect on it.

use prospect_objective::{Bco, ClassWeight, ClassWeights, Dpo, Hinge, Ipo, Orpo, Simpo, Slic, SmoothedDpo};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// λ_D and λ_U, which may wait for the counts of the training data.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClassWeighting {
    /// λ_D.
    pub desirable_weight: ClassWeight,
    /// λ_U.
    pub undesirable_weight: ClassWeight,
    /// The target of `auto`.
    pub class_balance: f64,
}

/// Over which mismatched completions KTO's reference point is a mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Z0 {
    /// Those of the whole global batch, however it is cut: exact.
    Global,
    /// Those of the micro-batch, as in TRL: `micro_batch_size` changes the method.
    MicroBatch,
    /// Those of one device's share of the global batch, divided by this number of devices, as the paper's code does: for
    /// reproducing its runs.
    DividedByWorldSize(usize),
}

impl Z0 {
    /// How many of the `batch` examples of a global batch share a reference point.
    pub(crate) fn group_size(self, batch: usize, micro_batch: usize) -> usize {
        match self {
            Self::Global => batch,
            Self::MicroBatch => micro_batch,
            Self::DividedByWorldSize(devices) => batch.div_ceil(devices),
        }
        .max(1)
    }

    /// What the clamped mean is divided by.
    pub(crate) fn divisor(self) -> f64 {
        if let Self::DividedByWorldSize(devices) = self { devices as f64 } else { 1.0 }
    }
}

/// Texts that tell conditional SFT's model how a completion was judged. They end the prompt as plain text, are never
/// scored, and a model is sampled from with the desirable one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ControlTokens {
    /// Before desirable completions, and when sampling.
    pub desirable: String,
    /// Before undesirable completions.
    pub undesirable: String,
}

impl Default for ControlTokens {
    fn default() -> Self {
        Self { desirable: "<|good|>".to_owned(), undesirable: "<|bad|>".to_owned() }
    }
}

/// The form of feedback that an objective is trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Examples {
    /// Completions with a thumb.
    Unpaired,
    /// Pairs.
    Paired,
    /// Desirable completions.
    Desirable,
    /// All completions, each to be imitated.
    All,
}

/// What is minimised.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the variants are those of ObjectiveName")]
pub enum Objective {
    Kto {
        /// β.
        beta: f64,
        /// λ_D and λ_U.
        #[serde(flatten)]
        weighting: ClassWeighting,
        /// Over what z0 is a mean.
        z0: Z0,
        /// Mismatched completions for each example.
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
    /// λ_D and λ_U for training data of `counts` = (n_D, n_U) rows; None for objectives without class weights.
    pub fn class_weights(&self, counts: (usize, usize)) -> Option<ClassWeights> {
        match self {
            Self::Kto { weighting, .. } | Self::ApoZeroUnpaired { weighting, .. } => {
                let ClassWeighting { desirable_weight, undesirable_weight, class_balance } = *weighting;
                Some(ClassWeights::resolve(desirable_weight, undesirable_weight, counts, class_balance))
            }
            _ => None,
        }
    }

    /// β, with which log-ratios become rewards; 1 for objectives that have none.
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

    /// Its name, as in `objective: kto`.
    pub fn name(&self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => name,
            Ok(serde_json::Value::Object(named)) => named.keys().next().cloned().unwrap_or_default(),
            _ => String::new(),
        }
    }

    /// What it is trained on.
    pub fn examples(&self) -> Examples {
        match self {
            Self::Kto { .. } | Self::ApoZeroUnpaired { .. } | Self::Bco(_) => Examples::Unpaired,
            Self::Dpo(_)
            | Self::Cdpo(_)
            | Self::RobustDpo(_)
            | Self::Hinge(_)
            | Self::Ipo(_)
            | Self::Simpo(_)
            | Self::Orpo(_)
            | Self::Slic(_) => Examples::Paired,
            Self::Sft => Examples::Desirable,
            Self::Csft(_) => Examples::All,
        }
    }

    /// Whether training looks at the reference.
    pub fn needs_reference(&self) -> bool {
        !matches!(self, Self::Simpo(_) | Self::Orpo(_) | Self::Slic(_) | Self::Sft | Self::Csft(_))
    }

    /// The text that ends the prompt of a completion that was judged so; a model is sampled from with that of desirable
    /// ones. Empty for all objectives but conditional SFT.
    pub fn control(&self, desirable: bool) -> &str {
        match self {
            Self::Csft(control) if desirable => &control.desirable,
            Self::Csft(control) => &control.undesirable,
            _ => "",
        }
    }
}
