//! Rotary position embeddings (arXiv 2104.09864) and the scaling of their frequencies for longer
//! contexts.

use std::f64::consts::TAU;

use candle_core::{DType, Device, Result, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ModelError;

/// Pairing of the dimensions of a head in rotary embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotaryPairs {
    /// Dimension i with i + half: the layout of Hugging Face checkpoints.
    Halves,
    /// Dimension 2i with 2i + 1: the layout of the original Llama and of GGUF files.
    Interleaved,
}

/// Rotary position embedding of queries and keys.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f64,
    /// Number of rotated dimensions of a head, counted from its first.
    pub dims: usize,
    /// Frequency scaling, if any.
    pub scaling: Option<RopeScaling>,
    /// Pairing of dimensions; `Halves` in Hugging Face checkpoints.
    pub pairs: RotaryPairs,
}

/// Frequency scaling for longer contexts, as `rope_scaling` in a `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "rope_type", rename_all = "lowercase", deny_unknown_fields)]
pub enum RopeScaling {
    /// Divides all frequencies by `factor`.
    Linear {
        /// Factor by which the context grows.
        factor: f64,
    },
    /// Scales only for sequences longer than `max_position_embeddings`. Such sequences are
    /// rejected, so this has no effect.
    Dynamic {
        /// Factor by which the context may grow.
        factor: f64,
    },
    /// Llama 3.1: divides low frequencies by `factor`, keeps high ones and blends between.
    Llama3 {
        /// Factor by which the context grows.
        factor: f64,
        /// Frequencies with fewer turns than this in the original context are divided by `factor`.
        low_freq_factor: f64,
        /// Frequencies with more turns than this in the original context are kept.
        high_freq_factor: f64,
        /// Context length before scaling.
        original_max_position_embeddings: usize,
    },
    /// YaRN (arXiv 2309.00071): blends by dimension, and scales queries and keys.
    Yarn {
        /// Factor by which the context grows.
        factor: f64,
        /// Context length before scaling (`max_position_embeddings`).
        #[serde(skip_serializing_if = "Option::is_none")]
        original_max_position_embeddings: Option<usize>,
        /// Dimensions with more turns than this in the original context are kept (32).
        #[serde(skip_serializing_if = "Option::is_none")]
        beta_fast: Option<f64>,
        /// Dimensions with fewer turns than this in the original context are divided (1).
        #[serde(skip_serializing_if = "Option::is_none")]
        beta_slow: Option<f64>,
        /// Factor of cos and sin (0.1·ln(factor) + 1).
        #[serde(skip_serializing_if = "Option::is_none")]
        attention_factor: Option<f64>,
        /// Rounds the ends of the blend to whole dimensions (true).
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

    /// Returns the scaled frequencies; `max_positions` is the model's `max_position_embeddings`.
    pub(crate) fn table(&self, max_positions: usize) -> RotaryTable {
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
                // The dimension with this many turns in the original context.
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
        RotaryTable { frequencies, magnitude }
    }
}

/// Rotation angles: position·frequency, in f64.
#[derive(Debug, Clone)]
pub(crate) struct RotaryTable {
    pub(crate) frequencies: Vec<f64>,
    /// Factor of cos and sin.
    magnitude: f64,
}

impl RotaryTable {
    /// Returns cos and sin of every position, each `[positions, rotated dims/2]`.
    pub(crate) fn cos_sin(
        &self,
        positions: &[u32],
        dtype: DType,
        device: &Device,
    ) -> Result<(Tensor, Tensor)> {
        let count = positions.iter().max().map_or(0, |max| *max as usize + 1);
        let index = Tensor::new(positions, &Device::Cpu)?;
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
                .index_select(&index, 0)
        };
        let (cos, sin) = (table(f64::cos)?, table(f64::sin)?);
        if device.is_cpu() {
            return Ok((cos, sin));
        }
        // One upload for both.
        let both = Tensor::stack(&[cos, sin], 0)?.to_device(device)?;
        Ok((both.get(0)?, both.get(1)?))
    }
}
