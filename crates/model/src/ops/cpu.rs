//! Operations fused for the CPU: one pass over the data, with rows in parallel.

mod attention;
mod cached_attention;
mod elementwise;
mod gelu;
mod head;
mod isa;
mod lanes;
mod linear;
mod mixed;
mod product;
mod real;

pub(super) use attention::{attention, attention_backward};
pub(super) use cached_attention::attention_to_cache;
pub(super) use elementwise::{gated_silu, gated_silu_backward, rms_norm, rms_norm_backward, rotary};
pub(super) use gelu::{gated_gelu, gated_gelu_backward, gelu, gelu_backward};
pub(super) use head::log_prob_of_targets;
pub(super) use linear::{linear, lora_gradients, operand, products};

use candle_core::{DType, Device, Layout, Result, Shape, Storage, StorageRef, Tensor, WithDType, bail};
pub(crate) use isa::{Isa, check as check_isa};
pub(crate) use lanes::{Loop, vectorised};
pub(crate) use mixed::{Convert, Stored};

/// Returns the name of the kernels of products with weights of this type.
pub(super) fn product_kernels(weights: DType) -> &'static str {
    let kernel = mixed::Kernel::detect();
    match (weights, Isa::limit()) {
        #[cfg(target_arch = "x86_64")]
        (DType::BF16, _) if kernel == mixed::Kernel::AmxBf16 => "amx_bf16",
        (DType::BF16, _) if kernel != mixed::Kernel::Widened => "avx512_bf16",
        (DType::BF16, Isa::Scalar) => "bf16_widened_to_f32_scalar",
        (DType::BF16, Isa::Avx2) => "bf16_widened_to_f32_avx2",
        (DType::BF16, _) => "bf16_widened_to_f32",
        (_, Isa::Scalar) => "gemm_scalar",
        (_, Isa::Avx2) => "gemm_avx2",
        _ => "gemm",
    }
}

/// Contiguous CPU tensor opened for reading.
struct Opened<'a> {
    storage: StorageRef<'a>,
    layout: &'a Layout,
}

impl<'a> Opened<'a> {
    fn new(tensor: &'a Tensor) -> Self {
        let (storage, layout) = tensor.storage_and_layout();
        Self { storage, layout }
    }

    fn slice<T: WithDType>(&self) -> Result<&[T]> {
        match (&*self.storage, self.layout.contiguous_offsets()) {
            (Storage::Cpu(storage), Some((start, end))) => Ok(&storage.as_slice::<T>()?[start..end]),
            (Storage::Cpu(_), None) => bail!("a fused CPU operation needs contiguous input"),
            _ => bail!("a fused CPU operation got a tensor of another device"),
        }
    }
}

fn tensor<T: WithDType>(data: Vec<T>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(data, shape.into(), &Device::Cpu)
}

/// Calls a function that is generic over [`Real`] with the tensor's element type.
macro_rules! by_dtype {
    ($tensor:expr, $function:ident($($argument:expr),* $(,)?)) => {
        match $tensor.dtype() {
            candle_core::DType::F32 => $function::<f32>($($argument),*),
            candle_core::DType::F64 => $function::<f64>($($argument),*),
            other => candle_core::bail!("on the CPU, models are f32, bf16 or f64, not {other:?}; set dtype: f32"),
        }
    };
}
use by_dtype;

/// Calls a function that is generic over [`Stored`] with the tensor's element type.
macro_rules! by_stored {
    ($tensor:expr, $function:ident($($argument:expr),* $(,)?)) => {
        match $tensor.dtype() {
            candle_core::DType::BF16 => $function::<half::bf16>($($argument),*),
            candle_core::DType::F32 => $function::<f32>($($argument),*),
            candle_core::DType::F64 => $function::<f64>($($argument),*),
            other => candle_core::bail!("on the CPU, models are f32, bf16 or f64, not {other:?}; set dtype: f32"),
        }
    };
}
use by_stored;

/// Returns a bf16 tensor in f32, and others as they are.
fn widened(x: &Tensor) -> Result<Tensor> {
    if x.dtype() == DType::BF16 { convert(x, DType::F32) } else { Ok(x.clone()) }
}

/// Converts between f32 and bf16 in parallel, and between other types like candle.
fn convert(x: &Tensor, dtype: DType) -> Result<Tensor> {
    let shape = x.shape().clone();
    match (x.dtype(), dtype) {
        (DType::F32, DType::BF16) => {
            let x = x.contiguous()?;
            tensor(mixed::rounded(Opened::new(&x).slice()?), shape)
        }
        (DType::BF16, DType::F32) => {
            let x = x.contiguous()?;
            tensor(mixed::widen(Opened::new(&x).slice()?), shape)
        }
        _ => x.to_dtype(dtype),
    }
}
