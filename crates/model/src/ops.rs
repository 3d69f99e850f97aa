//! Tensor operations of the layers, forward and backward, on packed `[rows, …]` matrices.
//!
//! | implementation | device |
//! |---|---|
//! | [`composed`] of candle's operations | all; reference of the others in tests |
//! | [`cpu`], fused, with bf16 weights in mixed precision | CPU |
//! | [`kernels`] of `prospect-kernels`, for most operations | GPU on which they are verified |

mod attention_batch;
mod composed;
mod cpu;
#[cfg(any(feature = "cuda", test))]
mod kernels;

use std::ops::Range;

pub(crate) use attention_batch::{AttentionBatch, GROUP_BYTES};
use candle_core::{DType, Device, Result, Tensor, quantized::QTensor};
#[cfg(test)]
pub(crate) use cpu::Isa;
pub(crate) use cpu::{Convert, Loop, Stored, check_isa, vectorised};
pub use prospect_kernels::adamw::AdamWConstants;

use crate::architecture::{AttentionHeads, GeluKind, RotaryPairs};
#[cfg(feature = "cuda")]
use crate::device::{Gpu, KernelGroup};

/// Calls an operation on a tensor's device. With a group name, uses the group's CUDA kernels if
/// they are enabled.
macro_rules! on_device {
    ($group:ident, $tensor:expr, $name:ident($($argument:expr),*)) => {
        on_device!($group, $tensor, $name($($argument),*), on the CPU $name($($argument),*))
    };
    ($group:ident, $tensor:expr, $name:ident($($argument:expr),*), on the CPU $fused:ident($($own:expr),*)) => {
        match $tensor.device() {
            Device::Cpu => cpu::$fused($($own),*),
            #[cfg(feature = "cuda")]
            Device::Cuda(gpu) if KernelGroup::$group.is_on() => kernels::$name(&Gpu(gpu), $($argument),*),
            _ => composed::$name($($argument),*),
        }
    };
    ($tensor:expr, $name:ident($($argument:expr),*)) => {
        match $tensor.device() {
            Device::Cpu => cpu::$name($($argument),*),
            _ => composed::$name($($argument),*),
        }
    };
}

/// Uploads vectors at once: each upload takes a while, however short it is.
pub(crate) fn upload<const N: usize>(vectors: [&[u32]; N], device: &Device) -> Result<[Tensor; N]> {
    let all = Tensor::new(vectors.concat(), device)?;
    let mut first = 0;
    let mut parts = vectors.map(|_| all.clone());
    for (part, vector) in parts.iter_mut().zip(vectors) {
        *part = all.narrow(0, first, vector.len())?;
        first += vector.len();
    }
    Ok(parts)
}

/// Low-rank update (LoRA) of a weight `[out, in]`: scale·b·a.
#[derive(Clone, Copy)]
pub(crate) struct LoraFactors<'a> {
    /// A, `[rank, in]`.
    pub(crate) a: &'a Tensor,
    /// B, `[out, rank]`.
    pub(crate) b: &'a Tensor,
    /// Factor of the product.
    pub(crate) scale: f64,
}

/// Returns \[residual +\] x·weightᵀ \[+ scale·(x·aᵀ)·bᵀ\] in the type `to`, and x·aᵀ if there is an
/// adapter.
///
/// `x` is `[rows, in]`, `weight` is `[out, in]`, `residual` and the result are `[rows, out]`. `to`
/// differs from the type of `x` only with bf16 operands on the CPU; it is that of `residual`.
pub(crate) fn linear(
    x: &Tensor,
    weight: &Tensor,
    residual: Option<&Tensor>,
    adapter: Option<LoraFactors<'_>>,
    to: DType,
) -> Result<(Tensor, Option<Tensor>)> {
    on_device!(x, linear(x, weight, residual, adapter, to))
}

/// Gradients of a low-rank update.
pub(crate) struct LoraGradients {
    /// d loss / d (x·aᵀ), `[rows, rank]`.
    pub(crate) down: Tensor,
    /// d loss / d a, `[rank, in]`.
    pub(crate) a: Tensor,
    /// d loss / d b, `[out, rank]`.
    pub(crate) b: Tensor,
}

/// Returns the gradients of the low-rank update of [`linear`]. `down` is the x·aᵀ that it returned,
/// `grad` is d loss / d result.
pub(crate) fn lora_gradients(
    x: &Tensor,
    down: &Tensor,
    grad: &Tensor,
    factors: LoraFactors<'_>,
) -> Result<LoraGradients> {
    on_device!(x, lora_gradients(x, down, grad, factors))
}

/// Converts a factor of a product to the type of the other factor.
pub(crate) fn operand(x: &Tensor, dtype: DType) -> Result<Tensor> {
    if x.dtype() == dtype {
        return Ok(x.clone());
    }
    on_device!(x, operand(x, dtype))
}

/// Returns the name of the kernels of products with weights of this type.
pub(crate) fn product_kernels(weights: DType, device: &Device) -> &'static str {
    match device {
        Device::Cpu => cpu::product_kernels(weights),
        _ => "cublas",
    }
}

/// Returns the type of activations that are no factors of products, such as the residual stream:
/// f32 on the CPU for bf16 weights, otherwise that of the weights.
pub(crate) fn stream_dtype(weights: DType, device: &Device) -> DType {
    if device.is_cpu() && weights == DType::BF16 { DType::F32 } else { weights }
}

/// Returns \[onto +\] Σ left·right, in the memory of `onto` if the device supports it. On the CPU,
/// the sum of products of bf16 matrices is f32.
pub(crate) fn products(onto: Option<Tensor>, terms: &[(&Tensor, &Tensor)]) -> Result<Tensor> {
    match terms {
        [(left, _), ..] => on_device!(left, products(onto, terms)),
        [] => candle_core::bail!("a sum of no products has no shape"),
    }
}

/// RMS norm of each row: returns x·w / rms(x) in the type `to`, `[rows, dim]`, and 1/rms(x),
/// `[rows]`. `to` differs from the type of `x` only on the CPU.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f64, to: DType) -> Result<(Tensor, Tensor)> {
    on_device!(Norm, x, rms_norm(x, weight, epsilon), on the CPU rms_norm(x, weight, epsilon, to))
}

/// Returns d loss / d x of [`rms_norm`], plus `residual`. `grad` is d loss / d result.
pub(crate) fn rms_norm_backward(
    x: &Tensor,
    weight: &Tensor,
    inverse_rms: &Tensor,
    grad: &Tensor,
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    on_device!(Norm, x, rms_norm_backward(x, weight, inverse_rms, grad, residual))
}

/// Returns d loss / d weight, `[dim]`, of [`rms_norm`].
pub(crate) fn rms_norm_weight_grad(x: &Tensor, inverse_rms: &Tensor, grad: &Tensor) -> Result<Tensor> {
    match x.device() {
        #[cfg(feature = "cuda")]
        Device::Cuda(gpu) if KernelGroup::Norm.is_on() => {
            kernels::rms_norm_weight_grad(&Gpu(gpu), x, inverse_rms, grad)
        }
        _ => composed::rms_norm_weight_grad(x, inverse_rms, grad),
    }
}

/// Returns the sum of the rows of `x`, added in at least single precision: the gradient of a bias.
pub(crate) fn sum_rows(x: &Tensor) -> Result<Tensor> {
    x.to_dtype(composed::wide(x.dtype()))?.sum(0)?.to_dtype(x.dtype())
}

/// Returns x − mean(x) of each row. Also its own backward pass.
pub(crate) fn centre(x: &Tensor) -> Result<Tensor> {
    composed::centre(x)
}

/// Rotates the heads of `x`, `[rows, heads·head_dim]`, by `cos` and `sin`, `[rows, rotated
/// dims/2]`. A head's other dimensions are unchanged. With `inverse`, rotates back, which is the
/// backward pass.
pub(crate) fn rotary(
    x: &Tensor,
    cos: &Tensor,
    sin: &Tensor,
    head_dim: usize,
    pairs: RotaryPairs,
    inverse: bool,
) -> Result<Tensor> {
    on_device!(Rotary, x, rotary(x, cos, sin, head_dim, pairs, inverse))
}

/// Returns silu(gate)·up (SwiGLU).
pub(crate) fn gated_silu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    on_device!(Activation, gate, gated_silu(gate, up))
}

/// Returns d loss / d gate and d loss / d up of [`gated_silu`].
pub(crate) fn gated_silu_backward(gate: &Tensor, up: &Tensor, grad: &Tensor) -> Result<(Tensor, Tensor)> {
    on_device!(Activation, gate, gated_silu_backward(gate, up, grad))
}

/// Returns gelu(x), exact or with the tanh approximation.
pub(crate) fn gelu(x: &Tensor, form: GeluKind) -> Result<Tensor> {
    on_device!(Activation, x, gelu(x, form))
}

/// Returns d loss / d x of [`gelu`].
pub(crate) fn gelu_backward(x: &Tensor, grad: &Tensor, form: GeluKind) -> Result<Tensor> {
    on_device!(Activation, x, gelu_backward(x, grad, form))
}

/// Returns gelu(gate)·up (GeGLU).
pub(crate) fn gated_gelu(gate: &Tensor, up: &Tensor, form: GeluKind) -> Result<Tensor> {
    on_device!(gate, gated_gelu(gate, up, form))
}

/// Returns d loss / d gate and d loss / d up of [`gated_gelu`].
pub(crate) fn gated_gelu_backward(
    gate: &Tensor,
    up: &Tensor,
    grad: &Tensor,
    form: GeluKind,
) -> Result<(Tensor, Tensor)> {
    on_device!(gate, gated_gelu_backward(gate, up, grad, form))
}

/// Returns whether the CUDA kernels compute attention of this shape: they have no window, and
/// divide scores by the root of the head dimension.
#[cfg(feature = "cuda")]
fn has_kernel(heads: AttentionHeads) -> bool {
    heads == AttentionHeads::new(heads.query, heads.key, heads.dim)
}

/// Scaled dot-product attention over prompt trees: a row attends to its prompt, and causally to its
/// own branch, as far as the window reaches.
///
/// `q` and the result are `[rows, query_heads·head_dim]`; `k` and `v` are `[rows,
/// key_heads·head_dim]`.
pub(crate) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, batch: &AttentionBatch<'_>) -> Result<Tensor> {
    match q.device() {
        Device::Cpu => cpu::attention(q, k, v, batch.trees, batch.heads),
        #[cfg(feature = "cuda")]
        Device::Cuda(gpu) if KernelGroup::Attention.is_on() && has_kernel(batch.heads) => {
            kernels::attention(&Gpu(gpu), q, k, v, batch)
        }
        _ => composed::attention(q, k, v, batch),
    }
}

/// Returns the gradients of [`attention`] with respect to q, k and v. Recomputes the probabilities.
pub(crate) fn attention_backward(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    grad: &Tensor,
    batch: &AttentionBatch<'_>,
) -> Result<(Tensor, Tensor, Tensor)> {
    match q.device() {
        Device::Cpu => cpu::attention_backward(q, k, v, grad, batch.trees, batch.heads),
        #[cfg(feature = "cuda")]
        Device::Cuda(gpu) if KernelGroup::Attention.is_on() && has_kernel(batch.heads) => {
            kernels::attention_backward(&Gpu(gpu), q, k, v, grad, batch)
        }
        _ => composed::attention_backward(q, k, v, grad, batch),
    }
}

/// Keys and values of a sequence in generation.
pub(crate) struct CachedSequence<'a> {
    /// Keys, `[key heads, capacity, dim]`.
    pub(crate) keys: &'a Tensor,
    /// Values, `[key heads, capacity, dim]`.
    pub(crate) values: &'a Tensor,
    /// Positions that the new token attends to.
    pub(crate) seen: Range<usize>,
}

/// Attention of one new token of each sequence, `[sequences, query_heads·head_dim]`, to the cached
/// keys and values of the sequence. Scores and sums are at least f32.
pub(crate) fn attention_to_cache(
    q: &Tensor,
    sequences: &[CachedSequence<'_>],
    heads: AttentionHeads,
) -> Result<Tensor> {
    on_device!(q, attention_to_cache(q, sequences, heads))
}

/// Returns x·weightᵀ in at least single precision: logits in bf16 would lose half a nat over a few
/// hundred tokens. `x` is `[rows, in]`, `weight` is `[out, in]`.
pub(crate) fn wide_linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    if !x.device().is_cpu() && matches!(x.dtype(), DType::BF16 | DType::F16) {
        return composed::wide_matmul(x, &weight.t()?);
    }
    Ok(linear(x, weight, None, None, stream_dtype(x.dtype(), x.device()))?.0)
}

/// Returns log softmax(logits)[target] of each row, `[rows]` in f64, and, if `gradient` names a
/// type, its gradient with respect to the logits: onehot − softmax. It has that type on the CPU,
/// and the type of the logits elsewhere.
pub(crate) fn log_prob_of_targets(
    logits: &Tensor,
    targets: &Tensor,
    gradient: Option<DType>,
) -> Result<(Tensor, Option<Tensor>)> {
    on_device!(
        LogProb,
        logits,
        log_prob_of_targets(logits, targets, gradient.is_some()),
        on the CPU log_prob_of_targets(logits, targets, gradient)
    )
}

/// Dequantises a matrix.
pub(crate) fn dequantise(matrix: &QTensor, dtype: DType, device: &Device) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(gpu) = device
        && KernelGroup::Dequantise.is_on()
        && let Some(elements) = kernels::dequantise(&Gpu(gpu), matrix, dtype)?
    {
        return Ok(elements);
    }
    matrix.dequantize(device)?.to_dtype(dtype)
}

/// Tensors of one parameter in an AdamW step.
#[derive(Debug, Clone, Copy)]
pub struct AdamWUpdate<'a> {
    /// Weights, in f32.
    pub value: &'a Tensor,
    /// d loss / d weights.
    pub gradient: &'a Tensor,
    /// First and second moment, in f32.
    pub moments: [&'a Tensor; 2],
}

/// Returns true if all tensors have this type.
#[cfg(feature = "cuda")]
fn all_are<'a>(mut tensors: impl Iterator<Item = &'a Tensor>, dtype: DType) -> bool {
    tensors.all(|tensor| tensor.dtype() == dtype)
}

/// Takes one AdamW step on several parameters with one kernel: updates weights and moments in place.
///
/// ```text
/// g = scale·gradient
/// m ← β1·m + (1 − β1)·g
/// v ← β2·v + (1 − β2)·g²
/// p ← decay·p − rate·m/(√v + ε)
/// ```
///
/// Returns false and changes nothing if the device has no kernel for tensors of these types, or the
/// kernel is not enabled.
pub fn adamw(updates: &[AdamWUpdate<'_>], constants: &AdamWConstants) -> Result<bool> {
    match updates.first().map(|update| update.value.device()) {
        #[cfg(feature = "cuda")]
        Some(Device::Cuda(gpu)) if KernelGroup::AdamW.is_on() => {
            let gradients = updates[0].gradient.dtype();
            if !all_are(updates.iter().map(|update| update.value), DType::F32)
                || !all_are(updates.iter().map(|update| update.gradient), gradients)
                || !matches!(gradients, DType::F32 | DType::BF16)
            {
                return Ok(false);
            }
            kernels::adamw(&Gpu(gpu), updates, constants)?;
            Ok(true)
        }
        _ => {
            let _ = constants;
            Ok(false)
        }
    }
}

/// Returns the sum of the squares of all elements of several tensors, from one kernel; None if the
/// device has no kernel for tensors of these types, or the kernel is not enabled.
pub fn sum_of_squares(tensors: &[&Tensor]) -> Result<Option<f64>> {
    match tensors.first() {
        #[cfg(feature = "cuda")]
        Some(first)
            if KernelGroup::AdamW.is_on()
                && matches!(first.dtype(), DType::F32 | DType::BF16)
                && all_are(tensors.iter().copied(), first.dtype()) =>
        {
            match first.device() {
                Device::Cuda(gpu) => kernels::sum_of_squares(&Gpu(gpu), tensors).map(Some),
                _ => Ok(None),
            }
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod twins;
