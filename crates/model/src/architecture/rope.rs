//! Rotary position embeddings (arXiv 2104.09864) and how their frequencies are scaled for longer contexts.

use std::f64::consts::TAU;

use candle_core::{DType, Device, Result, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ModelError, ops::RotaryPairs};

/// How positions rotate queries and keys.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f64,
    /// Dimensions of a head that are rotated, from its first on.
    pub dims: usize,
    /// How the frequencies are changed, if they are.
    pub scaling: Option<RopeScaling>,
    /// How dimensions are paired. Checkpoints in Hugging Face layout use halves.
    pub pairs: RotaryPairs,
}

/// How frequencies are changed, as in the `rope_scaling` of a `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "rope_type", rename_all = "lowercase", deny_unknown_fields)]
pub enum RopeScaling {
    /// All divided by `factor`.
    Linear {
        /// How many times longer the context becomes.
        factor: f64,
    },
    /// Changed only for sequences longer than `max_position_embeddings`, which are refused here: as without scaling.
    Dynamic {
        /// How many times longer the context may become.
        factor: f64,
    },
    /// Low frequencies divided by `factor`, high ones kept, blended between (Llama 3.1).
    Llama3 {
        /// How many times longer the context becomes.
        factor: f64,
        /// Frequencies with fewer turns than this in the original context are divided.
        low_freq_factor: f64,
        /// Frequencies with more turns than this in the original context are kept.
        high_freq_factor: f64,
        /// The original context.
        original_max_position_embeddings: usize,
    },
    /// Blended by dimension, and queries and keys made longer (arXiv 2309.00071).
    Yarn {
        /// How many times longer the context becomes.
        factor: f64,
        /// The original context; `max_position_embeddings` if absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        original_max_position_embeddings: Option<usize>,
        /// Dimensions with more turns than this in the original context are kept; 32.
        #[serde(skip_serializing_if = "Option::is_none")]
        beta_fast: Option<f64>,
        /// Dimensions with fewer turns than this in the original context are divided; 1.
        #[serde(skip_serializing_if = "Option::is_none")]
        beta_slow: Option<f64>,
        /// What cos and sin are multiplied by; 0.1·ln(factor) + 1.
        #[serde(skip_serializing_if = "Option::is_none")]
        attention_factor: Option<f64>,
        /// Whether the ends of the blend are whole dimensions; true.
        #[serde(skip_serializing_if = "Option::is_none")]
        truncate: Option<bool>,
    },
}

impl RopeScaling {
    fn factor(&self) -> f64 {
        match self {
            Self::Linear { factor }
            | Self::Dynamic { factor }
            | Self::Llama3 { factor, .. }
            | Self::Yarn { factor, .. } => *factor,
        }
    }
}

impl Rope {
    pub(super) fn validate(&self) -> std::result::Result<(), ModelError> {
        let fail = |message: &str| Err(ModelError::Architecture(message.to_owned()));
        if !(self.theta.is_finite() && self.theta > 1.0) {
            return fail("rope_theta is not a number above 1");
        }
        let Some(scaling) = &self.scaling else { return Ok(()) };
        if !(scaling.factor().is_finite() && scaling.factor() >= 1.0) {
            return fail("rope_scaling: factor is not a number of at least 1");
        }
        match scaling {
            RopeScaling::Llama3 { low_freq_factor: low, high_freq_factor: high, .. }
                if !(*low > 0.0 && high > low) =>
            {
                fail("rope_scaling: high_freq_factor must be above low_freq_factor, both above 0")
            }
            _ => Ok(()),
        }
    }

    /// The rotation's frequencies; `max_positions` is the model's own.
    pub(crate) fn rotation(&self, max_positions: usize) -> Rotation {
        let dims = self.dims as f64;
        let plain: Vec<f64> = (0..self.dims / 2).map(|i| self.theta.powf(-2.0 * i as f64 / dims)).collect();
        let scaled = |change: &dyn Fn(usize, f64) -> f64| {
            plain.iter().enumerate().map(|(i, frequency)| change(i, *frequency)).collect()
        };
        let (frequencies, magnitude) = match &self.scaling {
            None | Some(RopeScaling::Dynamic { .. }) => (plain, 1.0),
            Some(RopeScaling::Linear { factor }) => (scaled(&|_, frequency| frequency / factor), 1.0),
            Some(RopeScaling::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: original,
            }) => {
                let change = |_, frequency: f64| {
                    let turns = *original as f64 * frequency / TAU;
                    let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    frequency * (kept + (1.0 - kept) / factor)
                };
                (scaled(&change), 1.0)
            }
            Some(RopeScaling::Yarn {
                factor,
                original_max_position_embeddings: original,
                beta_fast,
                beta_slow,
                attention_factor,
                truncate,
            }) => {
                let original = original.unwrap_or(max_positions) as f64;
                // The dimension that turns this often in the original context.
                let dimension = |turns: f64| dims * (original / (turns * TAU)).ln() / (2.0 * self.theta.ln());
                let (low, high) = (dimension(beta_fast.unwrap_or(32.0)), dimension(beta_slow.unwrap_or(1.0)));
                let (low, high) =
                    if truncate.unwrap_or(true) { (low.floor(), high.ceil()) } else { (low, high) };
                let (low, high) = (low.max(0.0), high.min(dims - 1.0));
                let width = if high > low { high - low } else { 0.001 };
                let change = |i: usize, frequency: f64| {
                    let divided = ((i as f64 - low) / width).clamp(0.0, 1.0);
                    frequency * (divided / factor + 1.0 - divided)
                };
                (scaled(&change), attention_factor.unwrap_or(0.1 * factor.ln() + 1.0))
            }
        };
        Rotation { frequencies, magnitude }
    }
}

/// The rotation of each position: angles position·frequency, in f64.
#[derive(Debug, Clone)]
pub(crate) struct Rotation {
    pub(crate) frequencies: Vec<f64>,
    /// What cos and sin are multiplied by.
    magnitude: f64,
}

impl Rotation {
    /// cos and sin of every position, `[positions, rotated dims/2]`.
    pub(crate) fn at(&self, positions: &[u32], dtype: DType, device: &Device) -> Result<(Tensor, Tensor)> {
        let count = positions.iter().max().map_or(0, |max| *max as usize + 1);
        let index = Tensor::new(positions, device)?;
        let table = |function: fn(f64) -> f64| {
            let values: Vec<f64> = (0..count)
                .flat_map(|position| {
                    self.frequencies
                        .iter()
                        .map(move |frequency| function(position as f64 * frequency) * self.magnitude)
                })
                .collect();
            Tensor::from_vec(values, (count, self.frequencies.len()), &Device::Cpu)?
                .to_dtype(dtype)?
                .to_device(device)?
                .index_select(&index, 0)
        };
        Ok((table(f64::cos)?, table(f64::sin)?))
    }
}
