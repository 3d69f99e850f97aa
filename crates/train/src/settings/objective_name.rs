//! Names of objectives, as in `objective: kto`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Objective to minimise.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::Display, strum::VariantArray,
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
