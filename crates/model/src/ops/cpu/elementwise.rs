//! Norms, rotary embeddings and the gated activation.

use candle_core::{DType, Result, Tensor};
use half::bf16;
use rayon::prelude::*;

use super::{
    Opened, Stored, by_dtype, by_stored,
    lanes::{sum, vectorised},
    real::Real,
    tensor, widened,
};
use crate::architecture::RotaryPairs;

/// Rows per task: enough to outweigh the overhead of a task.
const ROWS: usize = 16;

pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f64, to: DType) -> Result<(Tensor, Tensor)> {
    fn run<T: Real, Y: Stored<Wide = T>>(
        x: &Tensor,
        weight: &Tensor,
        epsilon: f64,
    ) -> Result<(Tensor, Tensor)> {
        let (rows, dim) = x.dims2()?;
        let (x, weight) = (Opened::new(x), Opened::new(weight));
        let (x, weight) = (x.slice::<T>()?, weight.slice::<T>()?);
        let (count, epsilon) = (T::nearest(dim as f64), T::nearest(epsilon));
        let (mut y, mut inverse) = (vec![Y::NOTHING; rows * dim], vec![T::ZERO; rows]);
        let parts =
            y.par_chunks_mut(ROWS * dim).zip(x.par_chunks(ROWS * dim)).zip(inverse.par_chunks_mut(ROWS));
        parts.for_each(|((y, x), inverse)| {
            vectorised(|| {
                for ((y, x), inverse) in y.chunks_exact_mut(dim).zip(x.chunks_exact(dim)).zip(inverse) {
                    let square = sum(dim, |i| x[i] * x[i]);
                    *inverse = (square / count + epsilon).sqrt().recip();
                    for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                        *y = Y::round(*x * *inverse * *weight);
                    }
                }
            });
        });
        Ok((tensor(y, (rows, dim))?, tensor(inverse, rows)?))
    }
    let x = &widened(x)?;
    match to {
        DType::BF16 => run::<f32, bf16>(x, weight, epsilon),
        DType::F64 => run::<f64, f64>(x, weight, epsilon),
        _ => run::<f32, f32>(x, weight, epsilon),
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
    let (x, grad) = (&widened(x)?, &widened(grad)?);
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
                                    let (a, b) = (first[i].wide(), second[i].wide());
                                    y1[i] = S::round(a * c - b * s);
                                    y2[i] = S::round(a * s + b * c);
                                }
                            }
                            RotaryPairs::Interleaved => {
                                for i in 0..half {
                                    let (c, s) = (cos[i], sign * sin[i]);
                                    let (a, b) = (x[2 * i].wide(), x[2 * i + 1].wide());
                                    y[2 * i] = S::round(a * c - b * s);
                                    y[2 * i + 1] = S::round(a * s + b * c);
                                }
                            }
                        }
                    }
                }
            });
        });
        tensor(y, (rows, width))
    }
    by_stored!(x, run(x, cos, sin, head_dim, pairs, inverse))
}

/// Elements per task.
pub(super) const BLOCK: usize = 8192;

/// Returns activation(gate)·up.
pub(super) fn gated<S: Stored>(
    gate: &Tensor,
    up: &Tensor,
    activation: impl Fn(S::Wide) -> S::Wide + Sync,
) -> Result<Tensor> {
    let shape = gate.dims2()?;
    let (gate, up) = (Opened::new(gate), Opened::new(up));
    let (gate, up) = (gate.slice::<S>()?, up.slice::<S>()?);
    let mut y = vec![S::NOTHING; gate.len()];
    y.par_chunks_mut(BLOCK).zip(gate.par_chunks(BLOCK)).zip(up.par_chunks(BLOCK)).for_each(
        |((y, gate), up)| {
            vectorised(|| {
                for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
                    *y = S::round(activation(gate.wide()) * up.wide());
                }
            });
        },
    );
    tensor(y, shape)
}

/// Returns d loss / d gate and d loss / d up of [`gated`] in the type of these. `activation` returns
/// its value and its derivative.
pub(super) fn gated_backward<S: Stored>(
    gate: &Tensor,
    up: &Tensor,
    grad: &Tensor,
    activation: impl Fn(S::Wide) -> (S::Wide, S::Wide) + Sync,
) -> Result<(Tensor, Tensor)> {
    let (shape, grad) = (gate.dims2()?, &widened(grad)?);
    let (gate, up, grad) = (Opened::new(gate), Opened::new(up), Opened::new(grad));
    let (gate, up, grad) = (gate.slice::<S>()?, up.slice::<S>()?, grad.slice::<S::Wide>()?);
    let (mut d_gate, mut d_up) = (vec![S::NOTHING; gate.len()], vec![S::NOTHING; gate.len()]);
    let inputs = gate.par_chunks(BLOCK).zip(up.par_chunks(BLOCK)).zip(grad.par_chunks(BLOCK));
    let outputs = d_gate.par_chunks_mut(BLOCK).zip(d_up.par_chunks_mut(BLOCK));
    outputs.zip(inputs).for_each(|((d_gate, d_up), ((gate, up), grad))| {
        vectorised(|| {
            let inputs = gate.iter().zip(up).zip(grad);
            for ((d_gate, d_up), ((gate, up), grad)) in d_gate.iter_mut().zip(d_up).zip(inputs) {
                let (value, slope) = activation(gate.wide());
                *d_gate = S::round(*grad * up.wide() * slope);
                *d_up = S::round(*grad * value);
            }
        });
    });
    Ok((tensor(d_gate, shape)?, tensor(d_up, shape)?))
}

pub(crate) fn gated_silu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    fn run<S: Stored>(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        gated::<S>(gate, up, |gate| gate * gate.sigmoid())
    }
    by_stored!(gate, run(gate, up))
}

pub(crate) fn gated_silu_backward(gate: &Tensor, up: &Tensor, grad: &Tensor) -> Result<(Tensor, Tensor)> {
    fn run<S: Stored>(gate: &Tensor, up: &Tensor, grad: &Tensor) -> Result<(Tensor, Tensor)> {
        gated_backward::<S>(gate, up, grad, |gate| {
            let sigmoid = gate.sigmoid();
            let silu = gate * sigmoid;
            // silu' = σ + silu·(1 − σ)
            (silu, sigmoid + silu - silu * sigmoid)
        })
    }
    by_stored!(gate, run(gate, up, grad))
}
