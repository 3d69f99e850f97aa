//! The names of objectives, and which options have an effect on which.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is minimised, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectiveName {
    /// Kahneman-Tversky optimisation.
    Kto,
    /// KTO with 0 for a reference point.
    ApoZeroUnpaired,
    /// Binary classifier optimisation.
    Bco,
    /// Direct preference optimisation.
    Dpo,
    /// DPO that expects some labels to be wrong, conservatively.
    Cdpo,
    /// DPO that expects some labels to be wrong, without bias.
    RobustDpo,
    /// Hinge loss on DPO's margin.
    Hinge,
    /// Identity preference optimisation.
    Ipo,
    /// Simple preference optimisation, without reference.
    Simpo,
    /// Odds-ratio preference optimisation, without reference.
    Orpo,
    /// Sequence likelihood calibration, without reference.
    Slic,
    /// Supervised fine-tuning on desirable completions.
    Sft,
    /// Supervised fine-tuning on all completions, each after a control text that says whether it is desirable.
    Csft,
}

impl ObjectiveName {
    const ALL: [Self; 13] = [
        Self::Kto,
        Self::ApoZeroUnpaired,
        Self::Bco,
        Self::Dpo,
        Self::Cdpo,
        Self::RobustDpo,
        Self::Hinge,
        Self::Ipo,
        Self::Simpo,
        Self::Orpo,
        Self::Slic,
        Self::Sft,
        Self::Csft,
    ];

    /// The options that have an effect.
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Kto => &[
                "beta",
                "desirable_weight",
                "undesirable_weight",
                "class_balance",
                "z0",
                "world_size",
                "kl_partners",
                "humanline",
            ],
            Self::ApoZeroUnpaired => {
                &["beta", "desirable_weight", "undesirable_weight", "class_balance", "humanline"]
            }
            Self::Bco | Self::Dpo | Self::Hinge | Self::Ipo => &["beta", "humanline"],
            Self::Cdpo | Self::RobustDpo => &["beta", "label_smoothing", "humanline"],
            Self::Simpo => &["beta", "simpo_gamma"],
            Self::Orpo => &["beta"],
            Self::Slic => &["beta", "lambda_coef"],
            Self::Sft => &[],
            Self::Csft => &["control_tokens"],
        }
    }

    fn text(self) -> String {
        serde_json::to_value(self).ok().and_then(|name| Some(name.as_str()?.to_owned())).unwrap_or_default()
    }

    /// Says that `option` has no effect on this objective, and on which it has; None if it has an effect.
    pub(super) fn complaint(self, option: &str) -> Option<String> {
        if self.options().contains(&option) {
            return None;
        }
        let with: Vec<String> = Self::ALL
            .iter()
            .filter(|name| name.options().contains(&option))
            .map(|name| name.text())
            .collect();
        Some(format!(
            "`{option}` has no effect on `objective: {}`; it belongs to {}",
            self.text(),
            with.join(", ")
        ))
    }
}
