//! Norms, rotary embeddings and the gated activation.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::{
    Opened, by_dtype,
    lanes::{sum, vectorised},
    real::Real,
    tensor,
};
use crate::architecture::RotaryPairs;

/// Rows per task: enough to outweigh the overhead of a task.
const ROWS: usize = 16;

pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f64) -> Result<(Tensor, Tensor)> {
    fn run<T: Real>(x: &Tensor, weight: &Tensor, epsilon: f64) -> Result<(Tensor, Tensor)> {
        let (rows, dim) = x.dims2()?;
        let (x, weight) = (Opened::new(x), Opened::new(weight));
        let (x, weight) = (x.slice::<T>()?, weight.slice::<T>()?);
        let (count, epsilon) = (T::nearest(dim as f64), T::nearest(epsilon));
        let (mut y, mut inverse) = (vec![T::ZERO; rows * dim], vec![T::ZERO; rows]);
        let parts =
            y.par_chunks_mut(ROWS * dim).zip(x.par_chunks(ROWS * dim)).zip(inverse.par_chunks_mut(ROWS));
        parts.for_each(|((y, x), inverse)| {
            vectorised(|| {
                for ((y, x), inverse) in y.chunks_exact_mut(dim).zip(x.chunks_exact(dim)).zip(inverse) {
                    let square = sum(dim, |i| x[i] * x[i]);
                    *inverse = (square / count + epsilon).sqrt().recip();
                    for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                        *y = *x * *inverse * *weight;
                    }
                }
            });
        });
        Ok((tensor(y, (rows, dim))?, tensor(inverse, rows)?))
    }
    by_dtype!(x, run(x, weight, epsilon))
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
        let count = T::nearest(dim as f64);
        let inputs = x.par_chunks(ROWS * dim).zip(grad.par_chunks(ROWS * dim)).zip(inverse.par_chunks(ROWS));
        dx.par_chunks_mut(ROWS * dim).zip(inputs).for_each(|(dx, ((x, grad), inverse))| {
            vectorised(|| {
                let rows = x.chunks_exact(dim).zip(grad.chunks_exact(dim)).zip(inverse);
                for (dx, ((x, grad), inverse)) in dx.chunks_exact_mut(dim).zip(rows) {
                    let dot = sum(dim, |i| x[i] * grad[i] * weight[i]);
                    let pull = dot * *inverse * *inverse * *inverse / count;
                    for (((dx, x), grad), weight) in dx.iter_mut().zip(x).zip(grad).zip(weight) {
                        *dx += *grad * *weight * *inverse - *x * pull;
                    }
                }
            });
        });
        tensor(dx, (rows, dim))
    }
    by_dtype!(x, run(x, weight, inverse, grad, residual))
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
        let sign = T::nearest(if inverse { -1.0 } else { 1.0 });
        let mut y = vec![T::ZERO; rows * width];
        let turns = cos.par_chunks(ROWS * half).zip(sin.par_chunks(ROWS * half));
        let parts = y.par_chunks_mut(ROWS * width).zip(x.par_chunks(ROWS * width)).zip(turns);
        parts.for_each(|((y, x), (cos, sin))| {
            vectorised(|| {
                let turns = cos.chunks_exact(half).zip(sin.chunks_exact(half));
                for ((y, x), (cos, sin)) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(turns) {
                    for (y, x) in y.chunks_exact_mut(head_dim).zip(x.chunks_exact(head_dim)) {
                        y[2 * half..].copy_from_slice(&x[2 * half..]);
                        match pairs {
                            RotaryPairs::Halves => {
                                let ((first, second), (y1, y2)) = (x.split_at(half), y.split_at_mut(half));
                                for i in 0..half {
                                    let (c, s) = (cos[i], sign * sin[i]);
                                    y1[i] = first[i] * c - second[i] * s;
                                    y2[i] = first[i] * s + second[i] * c;
                                }
                            }
                            RotaryPairs::Interleaved => {
                                for i in 0..half {
                                    let (c, s) = (cos[i], sign * sin[i]);
                                    y[2 * i] = x[2 * i] * c - x[2 * i + 1] * s;
                                    y[2 * i + 1] = x[2 * i] * s + x[2 * i + 1] * c;
                                }
                            }
                        }
                    }
                }
            });
        });
        tensor(y, (rows, width))
    }
    by_dtype!(x, run(x, cos, sin, head_dim, pairs, inverse))
}

/// Elements per task.
pub(super) const BLOCK: usize = 8192;

/// Returns activation(gate)·up.
pub(super) fn gated<T: Real>(
    gate: &Tensor,
    up: &Tensor,
    activation: impl Fn(T) -> T + Sync,
) -> Result<Tensor> {
    let shape = gate.dims2()?;
    let (gate, up) = (Opened::new(gate), Opened::new(up));
    let (gate, up) = (gate.slice::<T>()?, up.slice::<T>()?);
    let mut y = vec![T::ZERO; gate.len()];
    y.par_chunks_mut(BLOCK).zip(gate.par_chunks(BLOCK)).zip(up.par_chunks(BLOCK)).for_each(
        |((y, gate), up)| {
            vectorised(|| {
                for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
                    *y = activation(*gate) * *up;
                }
            });
        },
    );
    tensor(y, shape)
}

/// Returns d loss / d gate and d loss / d up of [`gated`]. `activation` returns its value and its
/// derivative.
pub(super) fn gated_backward<T: Real>(
    gate: &Tensor,
    up: &Tensor,
    grad: &Tensor,
    activation: impl Fn(T) -> (T, T) + Sync,
) -> Result<(Tensor, Tensor)> {
    let shape = gate.dims2()?;
    let (gate, up, grad) = (Opened::new(gate), Opened::new(up), Opened::new(grad));
    let (gate, up, grad) = (gate.slice::<T>()?, up.slice::<T>()?, grad.slice::<T>()?);
    let (mut d_gate, mut d_up) = (vec![T::ZERO; gate.len()], vec![T::ZERO; gate.len()]);
    let inputs = gate.par_chunks(BLOCK).zip(up.par_chunks(BLOCK)).zip(grad.par_chunks(BLOCK));
    let outputs = d_gate.par_chunks_mut(BLOCK).zip(d_up.par_chunks_mut(BLOCK));
    outputs.zip(inputs).for_each(|((d_gate, d_up), ((gate, up), grad))| {
        vectorised(|| {
            let inputs = gate.iter().zip(up).zip(grad);
            for ((d_gate, d_up), ((gate, up), grad)) in d_gate.iter_mut().zip(d_up).zip(inputs) {
                let (value, slope) = activation(*gate);
                *d_gate = *grad * *up * slope;
                *d_up = *grad * value;
            }
        });
    });
    Ok((tensor(d_gate, shape)?, tensor(d_up, shape)?))
}

pub(crate) fn gated_silu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    fn run<T: Real>(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        gated(gate, up, |gate: T| gate * gate.sigmoid())
    }
    by_dtype!(gate, run(gate, up))
}

pub(crate) fn gated_silu_backward(gate: &Tensor, up: &Tensor, grad: &Tensor) -> Result<(Tensor, Tensor)> {
    fn run<T: Real>(gate: &Tensor, up: &Tensor, grad: &Tensor) -> Result<(Tensor, Tensor)> {
        gated_backward(gate, up, grad, |gate: T| {
            let sigmoid = gate.sigmoid();
            let silu = gate * sigmoid;
            // silu' = σ + silu·(1 − σ)
            (silu, sigmoid + silu - silu * sigmoid)
        })
    }
    by_dtype!(gate, run(gate, up, grad))
}
