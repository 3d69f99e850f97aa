//! Operations composed of candle's operations, for all devices.

#[cfg(feature = "cuda")]
use candle_core::Device;
use candle_core::{D, DType, Result, Tensor};

use super::{CachedSequence, LoraFactors, LoraGradients, attention_batch::AttentionBatch};
use crate::architecture::{AttentionHeads, GeluKind, RotaryPairs};
#[cfg(feature = "cuda")]
use crate::device;

/// Returns the type for reductions: f32 for half-precision tensors.
pub(super) fn wide(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// Computes `f` in at least single precision and rounds each result once to the type of the first
/// input.
fn in_wide<const N: usize, const M: usize>(
    inputs: [&Tensor; N],
    f: impl FnOnce([Tensor; N]) -> Result<[Tensor; M]>,
) -> Result<[Tensor; M]> {
    let [first, ..] = inputs.as_slice() else { candle_core::bail!("no input has no type") };
    let dtype = first.dtype();
    let mut wide_inputs = inputs.map(Tensor::clone);
    for input in &mut wide_inputs {
        *input = input.to_dtype(wide(dtype))?;
    }
    let mut results = f(wide_inputs)?;
    for result in &mut results {
        *result = result.to_dtype(dtype)?;
    }
    Ok(results)
}

/// Returns whether cuBLAS adds products of this tensor for us.
#[cfg(feature = "cuda")]
fn by_cublas(x: &Tensor) -> bool {
    matches!((x.device(), x.dtype()), (Device::Cuda(_), DType::BF16 | DType::F32 | DType::F64))
}

/// Returns left·right in at least single precision, without rounding products of half-precision
/// matrices to their type.
pub(super) fn wide_matmul(left: &Tensor, right: &Tensor) -> Result<Tensor> {
    scaled_product(left, right, 1.0, wide(left.dtype()))
}

/// Returns alpha·left·right in the type `to`, which is that of the factors or wider.
fn scaled_product(left: &Tensor, right: &Tensor, alpha: f64, to: DType) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if by_cublas(left) {
        return device::product(left, right, alpha, to);
    }
    let product = left.to_dtype(to)?.matmul(&right.to_dtype(to)?)?;
    if alpha == 1.0 { Ok(product) } else { product * alpha }
}

/// Returns sum + alpha·left·right, in the memory of `sum` on a GPU.
fn add_product(sum: Tensor, left: &Tensor, right: &Tensor, alpha: f64) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if by_cublas(left) {
        device::add_product(&sum, left, right, alpha)?;
        return Ok(sum);
    }
    let dtype = sum.dtype();
    sum + scaled_product(left, right, alpha, dtype)?
}

pub(super) fn linear(
    x: &Tensor,
    weight: &Tensor,
    residual: Option<&Tensor>,
    adapter: Option<LoraFactors<'_>>,
    _to: DType,
) -> Result<(Tensor, Option<Tensor>)> {
    let y = match residual {
        // A copy, because the backward pass reads the residual stream.
        Some(residual) => add_product(residual.copy()?, x, &weight.t()?, 1.0)?,
        None => x.matmul(&weight.t()?)?,
    };
    let Some(LoraFactors { a, b, scale }) = adapter else { return Ok((y, None)) };
    let down = x.matmul(&a.t()?)?;
    let y = add_product(y, &down, &b.t()?, scale)?;
    Ok((y, Some(down)))
}

pub(super) fn lora_gradients(
    x: &Tensor,
    down: &Tensor,
    grad: &Tensor,
    LoraFactors { a: _, b, scale }: LoraFactors<'_>,
) -> Result<LoraGradients> {
    // Of f32 adapters of half-precision models, without rounding.
    let dtype = wide(grad.dtype());
    let d_down = scaled_product(grad, b, scale, grad.dtype())?;
    let d_b = scaled_product(&grad.t()?, down, scale, dtype)?;
    Ok(LoraGradients { b: d_b, a: scaled_product(&d_down.t()?, x, 1.0, dtype)?, down: d_down })
}

pub(super) fn operand(x: &Tensor, dtype: DType) -> Result<Tensor> {
    x.to_dtype(dtype)
}

pub(super) fn products(onto: Option<Tensor>, terms: &[(&Tensor, &Tensor)]) -> Result<Tensor> {
    let mut sum = onto;
    for (left, right) in terms {
        sum = Some(match sum {
            Some(sum) => add_product(sum, left, right, 1.0)?,
            None => left.matmul(right)?,
        });
    }
    sum.ok_or_else(|| candle_core::Error::msg("a sum of no products has no shape"))
}

pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f64) -> Result<(Tensor, Tensor)> {
    let dtype = wide(x.dtype());
    let x_wide = x.to_dtype(dtype)?;
    let inverse = (x_wide.sqr()?.mean(D::Minus1)? + epsilon)?.sqrt()?.recip()?;
    let y = x_wide.broadcast_mul(&inverse.unsqueeze(1)?)?.broadcast_mul(&weight.to_dtype(dtype)?)?;
    Ok((y.to_dtype(x.dtype())?, inverse))
}

pub(super) fn rms_norm_backward(
    x: &Tensor,
    weight: &Tensor,
    inverse: &Tensor,
    grad: &Tensor,
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    let dtype = wide(x.dtype());
    let inverse = inverse.unsqueeze(1)?;
    let normalised = x.to_dtype(dtype)?.broadcast_mul(&inverse)?;
    let weighted = grad.to_dtype(dtype)?.broadcast_mul(&weight.to_dtype(dtype)?)?;
    let mean = (&weighted * &normalised)?.mean_keepdim(D::Minus1)?;
    let dx = (weighted - normalised.broadcast_mul(&mean)?)?.broadcast_mul(&inverse)?.to_dtype(x.dtype())?;
    residual.map_or(Ok(dx.clone()), |residual| residual + dx)
}

pub(super) fn rms_norm_weight_grad(x: &Tensor, inverse: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let dtype = wide(x.dtype());
    let normalised = x.to_dtype(dtype)?.broadcast_mul(&inverse.unsqueeze(1)?)?;
    (normalised * grad.to_dtype(dtype)?)?.sum(0)?.to_dtype(x.dtype())
}

pub(super) fn centre(x: &Tensor) -> Result<Tensor> {
    let wide = x.to_dtype(wide(x.dtype()))?;
    wide.broadcast_sub(&wide.mean_keepdim(D::Minus1)?)?.to_dtype(x.dtype())
}

pub(super) fn rotary(
    x: &Tensor,
    cos: &Tensor,
    sin: &Tensor,
    head_dim: usize,
    pairs: RotaryPairs,
    inverse: bool,
) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    let half = cos.dim(1)?;
    if 2 * half < head_dim {
        let x = x.reshape((rows * width / head_dim, head_dim))?;
        let rest = x.narrow(1, 2 * half, head_dim - 2 * half)?;
        let rotated = x.narrow(1, 0, 2 * half)?.reshape((rows, width / head_dim * 2 * half))?;
        let rotated = rotary(&rotated, cos, sin, 2 * half, pairs, inverse)?;
        return Tensor::cat(&[rotated.reshape(((), 2 * half))?, rest], 1)?.reshape((rows, width));
    }
    let heads = width / head_dim;
    let (cos, sin) =
        (cos.to_dtype(wide(x.dtype()))?.unsqueeze(1)?, sin.to_dtype(wide(x.dtype()))?.unsqueeze(1)?);
    let sin = if inverse { sin.neg()? } else { sin };
    let (a, b, axis, shape) = match pairs {
        RotaryPairs::Halves => {
            let x = x.reshape((rows, heads, 2, half))?;
            (x.narrow(2, 0, 1)?, x.narrow(2, 1, 1)?, 2, (rows, heads, half))
        }
        RotaryPairs::Interleaved => {
            let x = x.reshape((rows, heads, half, 2))?;
            (x.narrow(3, 0, 1)?, x.narrow(3, 1, 1)?, 3, (rows, heads, half))
        }
    };
    let rotated = in_wide([&a.reshape(shape)?, &b.reshape(shape)?], |[a, b]| {
        let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
        Ok([first, (a.broadcast_mul(&sin)? + b.broadcast_mul(&cos)?)?])
    })?;
    Tensor::stack(&rotated, axis)?.reshape((rows, width))
}

pub(super) fn gated_silu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    let [y] = in_wide([gate, up], |[gate, up]| Ok([(gate.silu()? * up)?]))?;
    Ok(y)
}

pub(super) fn gated_silu_backward(gate: &Tensor, up: &Tensor, grad: &Tensor) -> Result<(Tensor, Tensor)> {
    let [d_gate, d_up] = in_wide([gate, up, grad], |[gate, up, grad]| {
        // σ(x) = (1 + tanh(x/2))/2 does not overflow.
        let sigmoid = (((&gate / 2.0)?.tanh()? + 1.0)? / 2.0)?;
        let silu = (gate * &sigmoid)?;
        // silu' = σ + silu·(1 − σ)
        let slope = (&sigmoid + (&silu * (1.0 - &sigmoid)?)?)?;
        Ok([((&grad * up)? * slope)?, (grad * silu)?])
    })?;
    Ok((d_gate, d_up))
}

/// Returns tanh(√(2/π)·(x + 0.044715·x³)) and its derivative.
fn gelu_tanh(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let square = x.sqr()?;
    let root = (2.0 / std::f64::consts::PI).sqrt();
    let tanh = ((x * ((&square * 0.044_715)? + 1.0)?)? * root)?.tanh()?;
    let inner = (((square * (3.0 * 0.044_715))? + 1.0)? * root)?;
    let slope = ((1.0 - tanh.sqr()?)? * inner)?;
    Ok((tanh, slope))
}

/// Returns gelu(x) in the type of `x`.
fn gelu_of(x: &Tensor, form: GeluKind) -> Result<Tensor> {
    match form {
        GeluKind::Exact => x.gelu_erf(),
        GeluKind::Tanh => ((gelu_tanh(x)?.0 + 1.0)? * x)? / 2.0,
    }
}

/// Returns the derivative of gelu at `x`, in the type of `x`.
fn gelu_slope(x: &Tensor, form: GeluKind) -> Result<Tensor> {
    match form {
        // Φ(x) + x·φ(x)
        GeluKind::Exact => {
            let below = (((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)? / 2.0)?;
            let density = ((x.sqr()? / -2.0)?.exp()? / std::f64::consts::TAU.sqrt())?;
            below + (x * density)?
        }
        GeluKind::Tanh => {
            let (tanh, slope) = gelu_tanh(x)?;
            ((tanh + 1.0)? + (x * slope)?)? / 2.0
        }
    }
}

pub(super) fn gelu(x: &Tensor, form: GeluKind) -> Result<Tensor> {
    let [y] = in_wide([x], |[x]| Ok([gelu_of(&x, form)?]))?;
    Ok(y)
}

pub(super) fn gelu_backward(x: &Tensor, grad: &Tensor, form: GeluKind) -> Result<Tensor> {
    let [dx] = in_wide([x, grad], |[x, grad]| Ok([(grad * gelu_slope(&x, form)?)?]))?;
    Ok(dx)
}

pub(super) fn gated_gelu(gate: &Tensor, up: &Tensor, form: GeluKind) -> Result<Tensor> {
    let [y] = in_wide([gate, up], |[gate, up]| Ok([(gelu_of(&gate, form)? * up)?]))?;
    Ok(y)
}

pub(super) fn gated_gelu_backward(
    gate: &Tensor,
    up: &Tensor,
    grad: &Tensor,
    form: GeluKind,
) -> Result<(Tensor, Tensor)> {
    let [d_gate, d_up] = in_wide([gate, up, grad], |[gate, up, grad]| {
        let d_gate = ((&grad * up)? * gelu_slope(&gate, form)?)?;
        Ok([d_gate, (grad * gelu_of(&gate, form)?)?])
    })?;
    Ok((d_gate, d_up))
}

pub(super) fn attention_to_cache(
    q: &Tensor,
    sequences: &[CachedSequence<'_>],
    heads: AttentionHeads,
) -> Result<Tensor> {
    let dtype = q.dtype();
    let wide = super::stream_dtype(dtype, q.device());
    let attend = |(index, CachedSequence { keys, values, seen }): (usize, &CachedSequence<'_>)| {
        let cached = |x: &Tensor| x.narrow(1, seen.start, seen.len())?.to_dtype(wide);
        let q = q.narrow(0, index, 1)?.to_dtype(wide)?;
        let q = q.reshape((heads.key, heads.query / heads.key, heads.dim))?;
        let scores = (q.matmul(&cached(keys)?.t()?)? * heads.scale)?;
        let weights = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
        let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
        weights.matmul(&cached(values)?)?.reshape((1, heads.query * heads.dim))?.to_dtype(dtype)
    };
    Tensor::cat(&sequences.iter().enumerate().map(attend).collect::<Result<Vec<_>>>()?, 0)
}

pub(super) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, batch: &AttentionBatch<'_>) -> Result<Tensor> {
    let padded = batch.padded(q.device())?;
    let mut parts = Vec::with_capacity(padded.groups.len());
    for group in &padded.groups {
        let [k, v] = [group.keys(k, batch.heads)?, group.keys(v, batch.heads)?];
        let p = group.probabilities(&group.queries(q, batch.heads)?, &k, batch.heads)?;
        parts.push(group.by_row(&p.to_dtype(v.dtype())?.matmul(&v)?, batch.heads.query)?);
    }
    padded.query_rows(&parts)
}

pub(super) fn attention_backward(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    grad: &Tensor,
    batch: &AttentionBatch<'_>,
) -> Result<(Tensor, Tensor, Tensor)> {
    let padded = batch.padded(q.device())?;
    let heads = batch.heads;
    let (mut dq, mut dk, mut dv) = (Vec::new(), Vec::new(), Vec::new());
    for group in &padded.groups {
        let queries = group.queries(q, heads)?;
        let [keys, values] = [group.keys(k, heads)?, group.keys(v, heads)?];
        let dy = group.without_padding(group.queries(grad, heads)?)?;
        let p = group.probabilities(&queries, &keys, heads)?;
        let dp = wide_matmul(&dy, &values.t()?)?;
        let mean = (&p * &dp)?.sum_keepdim(D::Minus1)?;
        let ds = ((&p * dp.broadcast_sub(&mean)?)? * heads.scale)?.to_dtype(q.dtype())?;
        drop(dp);
        let p = p.to_dtype(q.dtype())?;
        // The products sum over the query heads of a key head.
        dq.push(group.by_row(&ds.matmul(&keys)?, heads.query)?);
        dk.push(group.by_row(&ds.t()?.matmul(&queries)?, heads.key)?);
        dv.push(group.by_row(&p.t()?.matmul(&dy)?, heads.key)?);
    }
    Ok((padded.query_rows(&dq)?, padded.key_rows(&dk)?, padded.key_rows(&dv)?))
}

pub(super) fn log_prob_of_targets(
    logits: &Tensor,
    targets: &Tensor,
    gradient: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let dtype = logits.dtype();
    let logits = logits.to_dtype(wide(dtype))?;
    let targets = targets.unsqueeze(1)?;
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?)?;
    let sum = shifted.exp()?.sum_keepdim(D::Minus1)?;
    let log_probs = shifted.gather(&targets, 1)?.sub(&sum.log()?)?.squeeze(1)?.to_dtype(DType::F64)?;
    let gradient = gradient
        .then(|| {
            let negative = shifted.exp()?.broadcast_div(&sum)?.neg()?;
            negative
                .scatter_add(&targets, &targets.ones_like()?.to_dtype(negative.dtype())?, 1)?
                .to_dtype(dtype)
        })
        .transpose()?;
    Ok((log_probs, gradient))
}
