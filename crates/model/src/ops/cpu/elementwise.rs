//! Norms, rotations and the gated activation.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::{Opened, by_dtype, real::Real, tensor};
use crate::ops::RotaryPairs;

/// Rows that one task works on: enough to outweigh the cost of a task.
const ROWS_PER_TASK: usize = 16;

fn zero<T: Real>() -> T {
    <T as num_traits::Zero>::zero()
}

pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f64) -> Result<(Tensor, Tensor)> {
    fn run<T: Real>(x: &Tensor, weight: &Tensor, epsilon: f64) -> Result<(Tensor, Tensor)> {
        let (rows, dim) = x.dims2()?;
        let (x, weight) = (Opened::new(x), Opened::new(weight));
        let (x, weight) = (x.slice::<T>()?, weight.slice::<T>()?);
        let (mut y, mut inverse) = (vec![zero::<T>(); rows * dim], vec![zero::<T>(); rows]);
        y.par_chunks_mut(dim).zip(x.par_chunks(dim)).zip(&mut inverse).with_min_len(ROWS_PER_TASK).for_each(
            |((y, x), inverse)| {
                let square = x.iter().fold(zero::<T>(), |sum, x| sum + *x * *x);
                *inverse = (square / T::of(dim as f64) + T::of(epsilon)).sqrt().recip();
                for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                    *y = *x * *inverse * *weight;
                }
            },
        );
        Ok((tensor(y, (rows, dim))?, tensor(inverse, rows)?))
    }
    by_dtype!(x, run(x, weight, epsilon))
}

pub(crate) fn rms_norm_backward(
    x: &Tensor,
    weight: &Tensor,
    inverse: &Tensor,
    grad: &Tensor,
) -> Result<Tensor> {
    fn run<T: Real>(x: &Tensor, weight: &Tensor, inverse: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let (rows, dim) = x.dims2()?;
        let (x, weight, inverse, grad) =
            (Opened::new(x), Opened::new(weight), Opened::new(inverse), Opened::new(grad));
        let (x, weight, inverse, grad) =
            (x.slice::<T>()?, weight.slice::<T>()?, inverse.slice::<T>()?, grad.slice::<T>()?);
        let mut dx = vec![zero::<T>(); rows * dim];
        dx.par_chunks_mut(dim)
            .zip(x.par_chunks(dim))
            .zip(grad.par_chunks(dim))
            .zip(inverse)
            .with_min_len(ROWS_PER_TASK)
            .for_each(|(((dx, x), grad), inverse)| {
                let dot =
                    x.iter().zip(grad).zip(weight).fold(zero::<T>(), |sum, ((x, g), w)| sum + *x * *g * *w);
                let pull = dot * *inverse * *inverse * *inverse / T::of(dim as f64);
                for (((dx, x), grad), weight) in dx.iter_mut().zip(x).zip(grad).zip(weight) {
                    *dx = *grad * *weight * *inverse - *x * pull;
                }
            });
        tensor(dx, (rows, dim))
    }
    by_dtype!(x, run(x, weight, inverse, grad))
}

pub(crate) fn rotary(
    x: &Tensor,
    cos: &Tensor,
    sin: &Tensor,
    head_dim: usize,
    pairs: RotaryPairs,
    inverse: bool,
) -> Result<Tensor> {
    fn run<T: Real>(
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
        let (x, cos, sin) = (x.slice::<T>()?, cos.slice::<T>()?, sin.slice::<T>()?);
        let sign = T::of(if inverse { -1.0 } else { 1.0 });
        let mut y = vec![zero::<T>(); rows * width];
        y.par_chunks_mut(width)
            .zip(x.par_chunks(width))
            .zip(cos.par_chunks(half).zip(sin.par_chunks(half)))
            .with_min_len(ROWS_PER_TASK)
            .for_each(|((y, x), (cos, sin))| {
                for (y, x) in y.chunks_exact_mut(head_dim).zip(x.chunks_exact(head_dim)) {
                    y[2 * half..].copy_from_slice(&x[2 * half..]);
                    for i in 0..half {
                        let (first, second) = match pairs {
                            RotaryPairs::Halves => (i, i + half),
                            RotaryPairs::Interleaved => (2 * i, 2 * i + 1),
                        };
                        let (c, s) = (cos[i], sign * sin[i]);
                        y[first] = x[first] * c - x[second] * s;
                        y[second] = x[first] * s + x[second] * c;
                    }
                }
            });
        tensor(y, (rows, width))
    }
    by_dtype!(x, run(x, cos, sin, head_dim, pairs, inverse))
}

/// Elements that one task works on.
const BLOCK: usize = 8192;

pub(crate) fn gated_silu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    fn run<T: Real>(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        let shape = gate.dims2()?;
        let (gate, up) = (Opened::new(gate), Opened::new(up));
        let (gate, up) = (gate.slice::<T>()?, up.slice::<T>()?);
        let mut y = vec![zero::<T>(); gate.len()];
        y.par_chunks_mut(BLOCK).zip(gate.par_chunks(BLOCK)).zip(up.par_chunks(BLOCK)).for_each(
            |((y, gate), up)| {
                for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
                    *y = *gate * gate.sigmoid() * *up;
                }
            },
        );
        tensor(y, shape)
    }
    by_dtype!(gate, run(gate, up))
}

pub(crate) fn gated_silu_backward(gate: &Tensor, up: &Tensor, grad: &Tensor) -> Result<(Tensor, Tensor)> {
    fn run<T: Real>(gate: &Tensor, up: &Tensor, grad: &Tensor) -> Result<(Tensor, Tensor)> {
        let shape = gate.dims2()?;
        let (gate, up, grad) = (Opened::new(gate), Opened::new(up), Opened::new(grad));
        let (gate, up, grad) = (gate.slice::<T>()?, up.slice::<T>()?, grad.slice::<T>()?);
        let (mut d_gate, mut d_up) = (vec![zero::<T>(); gate.len()], vec![zero::<T>(); gate.len()]);
        let inputs = gate.par_chunks(BLOCK).zip(up.par_chunks(BLOCK)).zip(grad.par_chunks(BLOCK));
        let outputs = d_gate.par_chunks_mut(BLOCK).zip(d_up.par_chunks_mut(BLOCK));
        outputs.zip(inputs).for_each(|((d_gate, d_up), ((gate, up), grad))| {
            for i in 0..gate.len() {
                let sigmoid = gate[i].sigmoid();
                let silu = gate[i] * sigmoid;
                // silu' = σ + silu·(1 − σ)
                d_gate[i] = grad[i] * up[i] * (sigmoid + silu - silu * sigmoid);
                d_up[i] = grad[i] * silu;
            }
        });
        Ok((tensor(d_gate, shape)?, tensor(d_up, shape)?))
    }
    by_dtype!(gate, run(gate, up, grad))
}
