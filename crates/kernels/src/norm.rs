//! RMS norm and layer norm, row by row.
//!
//! RMS norm: y = x·w·s with s = 1/√(mean x² + ε). Layer norm: the same of x − mean x, and a bias added.

use crate::{
    Item, KernelError, Launch, Operation,
    kernel::{NORM, read, value, write},
    launch::{self, WARP},
};

/// [`forward`] of a row in each block. `mean` and `bias` are null for the RMS norm; `mean` and `inverse` are written.
pub static FORWARD: Operation = Operation {
    source: &NORM,
    name: "norm_forward",
    parameters: &[
        write("y", Item::Any),
        write("mean", Item::F32),
        write("inverse", Item::F32),
        read("x", Item::Any),
        read("weight", Item::Any),
        read("bias", Item::Any),
        value("dim", Item::U32),
        value("epsilon", Item::F32),
    ],
};

/// [`backward`] of a row in each block. `mean` is null for the RMS norm, `residual` where there is none.
pub static BACKWARD: Operation = Operation {
    source: &NORM,
    name: "norm_backward",
    parameters: &[
        write("dx", Item::Any),
        read("x", Item::Any),
        read("weight", Item::Any),
        read("mean", Item::F32),
        read("inverse", Item::F32),
        read("grad", Item::Any),
        read("residual", Item::Any),
        value("dim", Item::U32),
    ],
};

/// [`weight_grad`], launched only for a norm that is trained. `mean` and `d_bias` are null for the RMS norm.
pub static WEIGHT_GRAD: Operation = Operation {
    source: &NORM,
    name: "norm_weight_grad",
    parameters: &[
        write("d_weight", Item::Any),
        write("d_bias", Item::Any),
        read("x", Item::Any),
        read("mean", Item::F32),
        read("inverse", Item::F32),
        read("grad", Item::Any),
        value("rows", Item::U32),
        value("dim", Item::U32),
    ],
};

pub(crate) static OPERATIONS: &[&Operation] = &[&FORWARD, &BACKWARD, &WEIGHT_GRAD];

/// Of [`FORWARD`] and [`BACKWARD`].
pub fn launch(rows: usize) -> Result<Launch, KernelError> {
    Launch::rows(rows, launch::THREADS, launch::THREADS / WARP * 4)
}

/// Of [`WEIGHT_GRAD`].
pub fn weight_grad_launch(dim: usize) -> Result<Launch, KernelError> {
    Launch::rows(dim.div_ceil(WARP as usize), launch::THREADS, 2 * launch::THREADS * 4)
}

/// What [`forward`] gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Normed {
    /// `[rows, dim]`.
    pub y: Vec<f64>,
    /// `[rows]`; zeros for the RMS norm.
    pub mean: Vec<f64>,
    /// `[rows]`: 1/√(mean (x − mean)² + ε).
    pub inverse: Vec<f64>,
}

/// Twin of [`FORWARD`]. `x` is `[rows, dim]`, `weight` `[dim]`; with a `bias` `[dim]`, the layer norm.
pub fn forward(x: &[f64], weight: &[f64], bias: Option<&[f64]>, epsilon: f64) -> Normed {
    let count = weight.len() as f64;
    let mut normed = Normed { y: Vec::with_capacity(x.len()), mean: Vec::new(), inverse: Vec::new() };
    for x in x.chunks_exact(weight.len()) {
        let mean = if bias.is_some() { x.iter().sum::<f64>() / count } else { 0.0 };
        let square = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        let inverse = (square + epsilon).sqrt().recip();
        let y = x
            .iter()
            .zip(weight)
            .enumerate()
            .map(|(i, (x, weight))| (x - mean) * inverse * weight + bias.map_or(0.0, |bias| bias[i]));
        normed.y.extend(y);
        normed.mean.push(mean);
        normed.inverse.push(inverse);
    }
    normed
}

/// Twin of [`BACKWARD`]: d loss / d x `[rows, dim]`, plus `residual`. Without `mean`, of the RMS norm.
pub fn backward(
    x: &[f64],
    weight: &[f64],
    mean: Option<&[f64]>,
    inverse: &[f64],
    grad: &[f64],
    residual: Option<&[f64]>,
) -> Vec<f64> {
    let (dim, count) = (weight.len(), weight.len() as f64);
    let mut dx = residual.map_or(vec![0.0; x.len()], <[f64]>::to_vec);
    let rows = x.chunks_exact(dim).zip(grad.chunks_exact(dim)).zip(inverse);
    for (row, (dx, ((x, grad), inverse))) in dx.chunks_exact_mut(dim).zip(rows).enumerate() {
        let centre = mean.map_or(0.0, |mean| mean[row]);
        let weighted: Vec<f64> = grad.iter().zip(weight).map(|(grad, weight)| grad * weight).collect();
        let dot: f64 = x.iter().zip(&weighted).map(|(x, weighted)| (x - centre) * weighted).sum();
        let shift = mean.map_or(0.0, |_| weighted.iter().sum::<f64>() * inverse / count);
        for ((dx, x), weighted) in dx.iter_mut().zip(x).zip(&weighted) {
            *dx += weighted * inverse - (x - centre) * dot * inverse.powi(3) / count - shift;
        }
    }
    dx
}

/// Twin of [`WEIGHT_GRAD`]: d loss / d weight and d loss / d bias, both `[dim]`.
pub fn weight_grad(
    x: &[f64],
    dim: usize,
    mean: Option<&[f64]>,
    inverse: &[f64],
    grad: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let (mut d_weight, mut d_bias) = (vec![0.0; dim], vec![0.0; dim]);
    let rows = x.chunks_exact(dim).zip(grad.chunks_exact(dim)).zip(inverse);
    for (row, ((x, grad), inverse)) in rows.enumerate() {
        let centre = mean.map_or(0.0, |mean| mean[row]);
        for i in 0..dim {
            d_weight[i] += (x[i] - centre) * inverse * grad[i];
            d_bias[i] += grad[i];
        }
    }
    (d_weight, d_bias)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{assert_derivative, dot, numbers};

    #[test]
    fn the_twins_are_derivatives() {
        let (x, weight, seed) = (numbers(1, 24), numbers(2, 8), numbers(3, 24));
        for bias in [None, Some(numbers(4, 8))] {
            let bias = bias.as_deref();
            let Normed { mean, inverse, .. } = forward(&x, &weight, bias, 1e-5);
            let mean = bias.map(|_| &*mean);
            let dx = backward(&x, &weight, mean, &inverse, &seed, None);
            assert_derivative("x", &x, &dx, |x| dot(&forward(x, &weight, bias, 1e-5).y, &seed));
            let (d_weight, d_bias) = weight_grad(&x, 8, mean, &inverse, &seed);
            assert_derivative("weight", &weight, &d_weight, |w| dot(&forward(&x, w, bias, 1e-5).y, &seed));
            if let Some(bias) = bias {
                assert_derivative("bias", bias, &d_bias, |b| {
                    dot(&forward(&x, &weight, Some(b), 1e-5).y, &seed)
                });
            }
            let residual = numbers(5, 24);
            let both = backward(&x, &weight, mean, &inverse, &seed, Some(&residual));
            assert!(both.iter().zip(&dx).zip(&residual).all(|((both, dx), r)| (both - dx - r).abs() < 1e-12));
        }
    }
}
