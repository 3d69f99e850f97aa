//! Footprint of a model that is not loaded.

use candle_core::quantized::GgmlDType;

use prospect_dist::ZeroStage;

use super::{Footprint, TrainedElements, memory::dequantised_bytes, parameter_count::ParameterCount};
use crate::{Architecture, DeviceKind, Dtype, ModelError, Quantization, Train, device::KernelGroup};

impl<'a> Footprint<'a> {
    /// Computes the footprint from an architecture and the settings of a recipe.
    ///
    /// `quantization: file` counts as 4.5 bits an element. With `zero`, each of `ranks` keeps its
    /// part of the frozen matrices, and in full training of gradients, optimizer state and in stage
    /// 3 of the trained matrices of the blocks.
    pub fn planned(
        architecture: &'a Architecture,
        train: Train,
        dtype: Dtype,
        quantization: Option<Quantization>,
        ranks: u64,
        zero: Option<ZeroStage>,
        device: DeviceKind,
    ) -> Result<Self, ModelError> {
        let ParameterCount { elements, matrices } = ParameterCount::new(architecture)?;
        let element_bytes = match dtype {
            Dtype::F32 => 4,
            Dtype::Bf16 => 2,
        };
        let in_matrices: u64 = matrices.iter().map(|[out, into]| (out * into) as u64).sum();
        let other_bytes = (elements as u64 - in_matrices) * element_bytes;
        let matrix_bytes = match quantization {
            None => in_matrices * element_bytes,
            Some(quantization) => {
                let kind = quantization.blocks().unwrap_or(GgmlDType::Q4_0);
                (in_matrices * kind.type_size() as u64).div_ceil(kind.block_size() as u64)
            }
        };
        let shards = if zero.is_some() { ranks.max(1) } else { 1 };
        let (trained, rank) = match train {
            Train::Full => {
                let count = elements as u64;
                let elsewhere = match zero {
                    Some(ZeroStage::Three) => in_matrices - in_matrices.div_ceil(shards),
                    Some(ZeroStage::Two) | None => 0,
                };
                (TrainedElements { count, on_rank: count - elsewhere, element_bytes }, None)
            }
            // Adapters are in f32, whatever the type of the weights.
            Train::Lora(lora) => {
                let count = matrices.iter().map(|[out, into]| (lora.r * (out + into)) as u64).sum();
                (TrainedElements { count, on_rank: count, element_bytes: 4 }, Some(lora.r as u64))
            }
        };
        Ok(Self {
            architecture,
            linears: matrices[..matrices.len() / architecture.layers].to_vec(),
            frozen: matrix_bytes.div_ceil(shards) + other_bytes,
            trained,
            moments: 2,
            state_shards: if rank.is_none() { shards } else { 1 },
            rank,
            element_bytes,
            stream_bytes: match device {
                DeviceKind::Cpu => element_bytes.max(4),
                DeviceKind::Gpu => element_bytes,
            },
            dequantised_bytes: quantization.map_or(0, |quantization| {
                dequantised_bytes(quantization.blocks().unwrap_or(GgmlDType::Q4_0), element_bytes, device)
            }),
            gathered_block: if shards > 1 { matrix_bytes / architecture.layers.max(1) as u64 } else { 0 },
            device,
            // None before the GPU is opened: then the plan has room for composed operations.
            kernels: KernelGroup::in_use(),
            reference_pass: false,
        })
    }
}
