//! Names of objectives, as in `objective: kto`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Objective to minimise.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::Display,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ObjectiveName {
    /// Kahneman-Tversky optimisation.
    Kto,
    /// KTO with a reference point of 0.
    ApoZeroUnpaired,
    /// Binary classifier optimisation.
    Bco,
    /// Offline PPO with rewards of 1 and −1.
    Ppo,
    /// Direct preference optimisation.
    Dpo,
    /// Conservative DPO: assumes that a share of the labels is wrong.
    Cdpo,
    /// Robust DPO: assumes that a share of the labels is wrong, with an unbiased loss.
    RobustDpo,
    /// Hinge loss on DPO's margin.
    Hinge,
    /// Identity preference optimisation.
    Ipo,
    /// Anchored preference optimisation: raises chosen, lowers rejected completions.
    ApoZero,
    /// Anchored preference optimisation: lowers both completions, the rejected one more.
    ApoDown,
    /// Exact optimisation: the reverse KL divergence to the labels' preference.
    ExoPair,
    /// Noise contrastive alignment.
    NcaPair,
    /// Self-play preference optimisation with hard labels.
    SppoHard,
    /// Optimal transport between the margins of policy and reference.
    Aot,
    /// Optimal transport between chosen and rejected completions.
    AotUnpaired,
    /// Simple preference optimisation. Needs no reference.
    Simpo,
    /// Odds-ratio preference optimisation. Needs no reference.
    Orpo,
    /// Sequence likelihood calibration. Needs no reference.
    Slic,
    /// Supervised fine-tuning on desirable completions.
    Sft,
    /// Conditional SFT: fine-tuning on all completions, each after a control text for its label.
    Csft,
}
