//! Norms, rotary embeddings and the gated activation.

#![expect(clippy::inline_always, reason = "what is not inlined is not compiled for the wide vectors")]

use candle_core::{DType, Result, Tensor};
use half::bf16;
use rayon::prelude::*;

use super::{
    Opened, Stored, by_dtype, by_stored,
    lanes::{Loop, sum, vectorised},
    real::Real,
    tensor, widened,
};
use crate::architecture::RotaryPairs;

/// Rows per task: enough to outweigh the overhead of a task.
const ROWS: usize = 16;

/// Norms rows of `x`, as many elements as `weight` has.
struct NormRows;

impl<T: Real, Y: Stored<Wide = T>> Loop<(&mut [Y], &mut [T], &[T], &[T], T)> for NormRows {
    type Output = ();

    #[inline(always)]
    fn run((y, inverse, x, weight, epsilon): (&mut [Y], &mut [T], &[T], &[T], T)) {
        let dim = weight.len();
        let count = T::nearest(dim as f64);
        for ((y, x), inverse) in y.chunks_exact_mut(dim).zip(x.chunks_exact(dim)).zip(inverse) {
            let square = sum(dim, |i| x[i] * x[i]);
            *inverse = (square / count + epsilon).sqrt().recip();
            for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                *y = Y::round(*x * *inverse * *weight);
            }
        }
    }
}

pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f64, to: DType) -> Result<(Tensor, Tensor)> {
    fn run<T: Real, Y: Stored<Wide = T>>(
        x: &Tensor,
        weight: &Tensor,
        epsilon: f64,
    ) -> Result<(Tensor, Tensor)> {
        let (rows, dim) = x.dims2()?;
        let (x, weight) = (Opened::new(x), Opened::new(weight));
        let (x, weight) = (x.slice::<T>()?, weight.slice::<T>()?);
        let epsilon = T::nearest(epsilon);
        let (mut y, mut inverse) = (vec![Y::NOTHING; rows * dim], vec![T::ZERO; rows]);
        let parts =
            y.par_chunks_mut(ROWS * dim).zip(x.par_chunks(ROWS * dim)).zip(inverse.par_chunks_mut(ROWS));
        parts.for_each(|((y, x), inverse)| vectorised(NormRows, (y, inverse, x, weight, epsilon)));
        Ok((tensor(y, (rows, dim))?, tensor(inverse, rows)?))
    }
    let x = &widened(x)?;
    match to {
        DType::BF16 => run::<f32, bf16>(x, weight, epsilon),
        DType::F64 => run::<f64, f64>(x, weight, epsilon),
        _ => run::<f32, f32>(x, weight, epsilon),
    }
}

/// Adds the gradients of rows of `x` to `dx`.
struct NormBackwardRows;

impl<T: Real> Loop<(&mut [T], &[T], &[T], &[T], &[T])> for NormBackwardRows {
    type Output = ();

    #[inline(always)]
    fn run((dx, x, grad, inverse, weight): (&mut [T], &[T], &[T], &[T], &[T])) {
        let dim = weight.len();
        let count = T::nearest(dim as f64);
        let rows = x.chunks_exact(dim).zip(grad.chunks_exact(dim)).zip(inverse);
        for (dx, ((x, grad), inverse)) in dx.chunks_exact_mut(dim).zip(rows) {
            let dot = sum(dim, |i| x[i] * grad[i] * weight[i]);
            let pull = dot * *inverse * *inverse * *inverse / count;
            for (((dx, x), grad), weight) in dx.iter_mut().zip(x).zip(grad).zip(weight) {
                *dx += *grad * *weight * *inverse - *x * pull;
            }
        }
    }
}

pub(crate) fn rms_norm_backward(
    x: &Tensor,
    weight: &Tensor,
    inverse: &Tensor,
    grad: &Tensor,
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    fn run<T: Real>(
        x: &Tensor,
        weight: &Tensor,
        inverse: &Tensor,
        grad: &Tensor,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (rows, dim) = x.dims2()?;
        let (x, weight, inverse, grad) =
            (Opened::new(x), Opened::new(weight), Opened::new(inverse), Opened::new(grad));
        let (x, weight, inverse, grad) =
            (x.slice::<T>()?, weight.slice::<T>()?, inverse.slice::<T>()?, grad.slice::<T>()?);
        let mut dx = match residual {
            Some(residual) => Opened::new(residual).slice::<T>()?.to_vec(),
            None => vec![T::ZERO; rows * dim],
        };
        let inputs = x.par_chunks(ROWS * dim).zip(grad.par_chunks(ROWS * dim)).zip(inverse.par_chunks(ROWS));
        dx.par_chunks_mut(ROWS * dim).zip(inputs).for_each(|(dx, ((x, grad), inverse))| {
            vectorised(NormBackwardRows, (dx, x, grad, inverse, weight));
        });
        tensor(dx, (rows, dim))
    }
    let (x, grad) = (&widened(x)?, &widened(grad)?);
    by_dtype!(x, run(x, weight, inverse, grad, residual))
}

/// Rows to rotate, of `width` elements, with `half` angles each.
struct RotatedRows<'a, S: Stored> {
    y: &'a mut [S],
    x: &'a [S],
    cos: &'a [S::Wide],
    sin: &'a [S::Wide],
    /// −1 to rotate back.
    sign: S::Wide,
    width: usize,
    half: usize,
    head_dim: usize,
}

impl<S: Stored> RotatedRows<'_, S> {
    /// Calls `rotate` with y and x of each head, and cos and signed sin of its row; copies the
    /// dimensions that are not rotated.
    #[inline(always)]
    fn for_each_head(self, rotate: impl Fn(&mut [S], &[S], &[S::Wide], &[S::Wide], S::Wide)) {
        let Self { y, x, cos, sin, sign, width, half, head_dim } = self;
        let turns = cos.chunks_exact(half).zip(sin.chunks_exact(half));
        for ((y, x), (cos, sin)) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(turns) {
            for (y, x) in y.chunks_exact_mut(head_dim).zip(x.chunks_exact(head_dim)) {
                y[2 * half..].copy_from_slice(&x[2 * half..]);
                rotate(&mut y[..2 * half], &x[..2 * half], cos, sin, sign);
            }
        }
    }
}

struct RotateHalves;

impl<S: Stored> Loop<RotatedRows<'_, S>> for RotateHalves {
    type Output = ();

    #[inline(always)]
    fn run(rows: RotatedRows<'_, S>) {
        rows.for_each_head(|y, x, cos, sin, sign| {
            let half = cos.len();
            let ((first, second), (y1, y2)) = (x.split_at(half), y.split_at_mut(half));
            let pairs = first.iter().zip(second).zip(cos.iter().zip(sin));
            for ((y1, y2), ((a, b), (cos, sin))) in y1.iter_mut().zip(y2).zip(pairs) {
                let (a, b, s) = (a.wide(), b.wide(), sign * *sin);
                *y1 = S::round(a * *cos - b * s);
                *y2 = S::round(a * s + b * *cos);
            }
        });
    }
}

struct RotateInterleaved;

impl<S: Stored> Loop<RotatedRows<'_, S>> for RotateInterleaved {
    type Output = ();

    #[inline(always)]
    fn run(rows: RotatedRows<'_, S>) {
        rows.for_each_head(|y, x, cos, sin, sign| {
            let pairs = x.chunks_exact(2).zip(cos.iter().zip(sin));
            for (y, (x, (cos, sin))) in y.chunks_exact_mut(2).zip(pairs) {
                let (a, b, s) = (x[0].wide(), x[1].wide(), sign * *sin);
                y[0] = S::round(a * *cos - b * s);
                y[1] = S::round(a * s + b * *cos);
            }
        });
    }
}

pub(crate) fn rotary(
    x: &Tensor,
    cos: &Tensor,
    sin: &Tensor,
    head_dim: usize,
    pairs: RotaryPairs,
    inverse: bool,
) -> Result<Tensor> {
    fn run<S: Stored>(
        x: &Tensor,
        cos: &Tensor,
        sin: &Tensor,
        head_dim: usize,
        pairs: RotaryPairs,
        inverse: bool,
    ) -> Result<Tensor> {
        let (rows, width) = x.dims2()?;
        let half = cos.dim(1)?;
        let (x, cos, sin) = (Opened::new(x), Opened::new(cos), Opened::new(sin));
        let (x, cos, sin) = (x.slice::<S>()?, cos.slice::<S::Wide>()?, sin.slice::<S::Wide>()?);
        let sign = S::Wide::nearest(if inverse { -1.0 } else { 1.0 });
        let mut y = vec![S::NOTHING; rows * width];
        let turns = cos.par_chunks(ROWS * half).zip(sin.par_chunks(ROWS * half));
        let parts = y.par_chunks_mut(ROWS * width).zip(x.par_chunks(ROWS * width)).zip(turns);
        parts.for_each(|((y, x), (cos, sin))| {
            let rows = RotatedRows { y, x, cos, sin, sign, width, half, head_dim };
            match pairs {
                RotaryPairs::Halves => vectorised(RotateHalves, rows),
                RotaryPairs::Interleaved => vectorised(RotateInterleaved, rows),
            }
        });
        tensor(y, (rows, width))
    }
    by_stored!(x, run(x, cos, sin, head_dim, pairs, inverse))
}

/// Elements per task.
pub(super) const BLOCK: usize = 8192;

/// Activation of a gate. Its functions must be marked `#[inline(always)]`.
pub(super) trait Activation<T>: Sync {
    /// Returns the activation of `x`.
    fn value(&self, x: T) -> T;

    /// Returns the activation of `x` and its derivative.
    fn value_and_slope(&self, x: T) -> (T, T);
}

struct GatedBlock;

impl<S: Stored, F: Activation<S::Wide>> Loop<(&mut [S], &[S], &[S], &F)> for GatedBlock {
    type Output = ();

    #[inline(always)]
    fn run((y, gate, up, activation): (&mut [S], &[S], &[S], &F)) {
        for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
            *y = S::round(activation.value(gate.wide()) * up.wide());
        }
    }
}

struct GatedBackwardBlock;

impl<S: Stored, F: Activation<S::Wide>> Loop<([&mut [S]; 2], [&[S]; 2], &[S::Wide], &F)>
    for GatedBackwardBlock
{
    type Output = ();

    #[inline(always)]
    fn run(([d_gate, d_up], [gate, up], grad, activation): ([&mut [S]; 2], [&[S]; 2], &[S::Wide], &F)) {
        let inputs = gate.iter().zip(up).zip(grad);
        for ((d_gate, d_up), ((gate, up), grad)) in d_gate.iter_mut().zip(d_up).zip(inputs) {
            let (value, slope) = activation.value_and_slope(gate.wide());
            *d_gate = S::round(*grad * up.wide() * slope);
            *d_up = S::round(*grad * value);
        }
    }
}

/// Returns activation(gate)·up.
pub(super) fn gated<S: Stored>(
    gate: &Tensor,
    up: &Tensor,
    activation: &impl Activation<S::Wide>,
) -> Result<Tensor> {
    let shape = gate.dims2()?;
    let (gate, up) = (Opened::new(gate), Opened::new(up));
    let (gate, up) = (gate.slice::<S>()?, up.slice::<S>()?);
    let mut y = vec![S::NOTHING; gate.len()];
    y.par_chunks_mut(BLOCK).zip(gate.par_chunks(BLOCK)).zip(up.par_chunks(BLOCK)).for_each(
        |((y, gate), up)| {
            vectorised(GatedBlock, (y, gate, up, activation));
        },
    );
    tensor(y, shape)
}

/// Returns d loss / d gate and d loss / d up of [`gated`] in the type of these.
pub(super) fn gated_backward<S: Stored>(
    gate: &Tensor,
    up: &Tensor,
    grad: &Tensor,
    activation: &impl Activation<S::Wide>,
) -> Result<(Tensor, Tensor)> {
    let (shape, grad) = (gate.dims2()?, &widened(grad)?);
    let (gate, up, grad) = (Opened::new(gate), Opened::new(up), Opened::new(grad));
    let (gate, up, grad) = (gate.slice::<S>()?, up.slice::<S>()?, grad.slice::<S::Wide>()?);
    let (mut d_gate, mut d_up) = (vec![S::NOTHING; gate.len()], vec![S::NOTHING; gate.len()]);
    let inputs = gate.par_chunks(BLOCK).zip(up.par_chunks(BLOCK)).zip(grad.par_chunks(BLOCK));
    let outputs = d_gate.par_chunks_mut(BLOCK).zip(d_up.par_chunks_mut(BLOCK));
    outputs.zip(inputs).for_each(|((d_gate, d_up), ((gate, up), grad))| {
        vectorised(GatedBackwardBlock, ([d_gate, d_up], [gate, up], grad, activation));
    });
    Ok((tensor(d_gate, shape)?, tensor(d_up, shape)?))
}

struct Silu;

impl<T: Real> Activation<T> for Silu {
    #[inline(always)]
    fn value(&self, x: T) -> T {
        x * x.sigmoid()
    }

    #[inline(always)]
    fn value_and_slope(&self, x: T) -> (T, T) {
        let sigmoid = x.sigmoid();
        let silu = x * sigmoid;
        // silu' = σ + silu·(1 − σ)
        (silu, sigmoid + silu - silu * sigmoid)
    }
}

pub(crate) fn gated_silu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    fn run<S: Stored>(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        gated::<S>(gate, up, &Silu)
    }
    by_stored!(gate, run(gate, up))
}

pub(crate) fn gated_silu_backward(gate: &Tensor, up: &Tensor, grad: &Tensor) -> Result<(Tensor, Tensor)> {
    fn run<S: Stored>(gate: &Tensor, up: &Tensor, grad: &Tensor) -> Result<(Tensor, Tensor)> {
        gated_backward::<S>(gate, up, grad, &Silu)
    }
    by_stored!(gate, run(gate, up, grad))
}
