//! RMS norm and layer norm, row by row.
//!
//! RMS norm: y = x·w·rstd with rstd = 1/√(mean(x²) + ε). Layer norm: the same of x − mean(x), plus
//! a bias.

use crate::{
    KernelError, Launch, Operation, ScalarType,
    kernel::{NORM, read, value, write},
    launch::{self, WARP},
};

/// Operation of [`forward`], one row per block. `mean` and `bias` are null for the RMS norm. Writes
/// `mean` and `rstd` for the backward pass.
pub static FORWARD: Operation = Operation {
    source: &NORM,
    name: "norm_forward",
    parameters: &[
        write("y", ScalarType::Generic),
        write("mean", ScalarType::F32),
        write("rstd", ScalarType::F32),
        read("x", ScalarType::Generic),
        read("weight", ScalarType::Generic),
        read("bias", ScalarType::Generic),
        value("dim", ScalarType::U32),
        value("epsilon", ScalarType::F32),
    ],
};

/// Operation of [`backward`], one row per block. `mean` is null for the RMS norm; `residual` may be
/// null.
pub static BACKWARD: Operation = Operation {
    source: &NORM,
    name: "norm_backward",
    parameters: &[
        write("dx", ScalarType::Generic),
        read("x", ScalarType::Generic),
        read("weight", ScalarType::Generic),
        read("mean", ScalarType::F32),
        read("rstd", ScalarType::F32),
        read("grad", ScalarType::Generic),
        read("residual", ScalarType::Generic),
        value("dim", ScalarType::U32),
    ],
};

/// Operation of [`weight_grad`], for trained norms only. `mean` and `d_bias` are null for the RMS
/// norm.
pub static WEIGHT_GRAD: Operation = Operation {
    source: &NORM,
    name: "norm_weight_grad",
    parameters: &[
        write("d_weight", ScalarType::Generic),
        write("d_bias", ScalarType::Generic),
        read("x", ScalarType::Generic),
        read("mean", ScalarType::F32),
        read("rstd", ScalarType::F32),
        read("grad", ScalarType::Generic),
        value("rows", ScalarType::U32),
        value("dim", ScalarType::U32),
    ],
};

pub(crate) static OPERATIONS: &[&Operation] = &[&FORWARD, &BACKWARD, &WEIGHT_GRAD];

/// Returns the launch of [`FORWARD`] and [`BACKWARD`].
pub fn launch(rows: usize) -> Result<Launch, KernelError> {
    Launch::rows(rows, launch::THREADS, launch::THREADS / WARP * 4)
}

/// Returns the launch of [`WEIGHT_GRAD`].
pub fn weight_grad_launch(dim: usize) -> Result<Launch, KernelError> {
    Launch::rows(dim.div_ceil(WARP as usize), launch::THREADS, 2 * launch::THREADS * 4)
}

/// Result of [`forward`].
#[derive(Debug, Clone, PartialEq)]
pub struct NormOutput {
    /// Normalised rows, `[rows, dim]`.
    pub y: Vec<f64>,
    /// Means, `[rows]`; zeros for the RMS norm.
    pub mean: Vec<f64>,
    /// Reciprocal standard deviations 1/√(mean((x − mean)²) + ε), `[rows]`.
    pub rstd: Vec<f64>,
}

/// Twin of [`FORWARD`]: layer norm with a `bias`, RMS norm without. `x` is `[rows, dim]`, `weight`
/// and `bias` are `[dim]`.
pub fn forward(x: &[f64], weight: &[f64], bias: Option<&[f64]>, epsilon: f64) -> NormOutput {
    let count = weight.len() as f64;
    let mut normed = NormOutput { y: Vec::with_capacity(x.len()), mean: Vec::new(), rstd: Vec::new() };
    for x in x.chunks_exact(weight.len()) {
        let mean = if bias.is_some() { x.iter().sum::<f64>() / count } else { 0.0 };
        let square = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        let rstd = (square + epsilon).sqrt().recip();
        let y = x
            .iter()
            .zip(weight)
            .enumerate()
            .map(|(i, (x, weight))| (x - mean) * rstd * weight + bias.map_or(0.0, |bias| bias[i]));
        normed.y.extend(y);
        normed.mean.push(mean);
        normed.rstd.push(rstd);
    }
    normed
}

/// Twin of [`BACKWARD`]: returns d loss / d x, `[rows, dim]`, plus `residual`. RMS norm without
/// `mean`.
pub fn backward(
    x: &[f64],
    weight: &[f64],
    mean: Option<&[f64]>,
    rstd: &[f64],
    grad: &[f64],
    residual: Option<&[f64]>,
) -> Vec<f64> {
    let (dim, count) = (weight.len(), weight.len() as f64);
    let mut dx = residual.map_or(vec![0.0; x.len()], <[f64]>::to_vec);
    let rows = x.chunks_exact(dim).zip(grad.chunks_exact(dim)).zip(rstd);
    for (row, (dx, ((x, grad), rstd))) in dx.chunks_exact_mut(dim).zip(rows).enumerate() {
        let centre = mean.map_or(0.0, |mean| mean[row]);
        let weighted: Vec<f64> = grad.iter().zip(weight).map(|(grad, weight)| grad * weight).collect();
        let dot: f64 = x.iter().zip(&weighted).map(|(x, weighted)| (x - centre) * weighted).sum();
        let shift = mean.map_or(0.0, |_| weighted.iter().sum::<f64>() * rstd / count);
        for ((dx, x), weighted) in dx.iter_mut().zip(x).zip(&weighted) {
            *dx += weighted * rstd - (x - centre) * dot * rstd.powi(3) / count - shift;
        }
    }
    dx
}

/// Twin of [`WEIGHT_GRAD`]: returns d loss / d weight and d loss / d bias, both `[dim]`.
pub fn weight_grad(
    x: &[f64],
    dim: usize,
    mean: Option<&[f64]>,
    rstd: &[f64],
    grad: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let (mut d_weight, mut d_bias) = (vec![0.0; dim], vec![0.0; dim]);
    let rows = x.chunks_exact(dim).zip(grad.chunks_exact(dim)).zip(rstd);
    for (row, ((x, grad), rstd)) in rows.enumerate() {
        let centre = mean.map_or(0.0, |mean| mean[row]);
        for i in 0..dim {
            d_weight[i] += (x[i] - centre) * rstd * grad[i];
            d_bias[i] += grad[i];
        }
    }
    (d_weight, d_bias)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{assert_derivative, dot, random_values};

    #[test]
    fn the_twins_are_derivatives() {
        let (x, weight, seed) = (random_values(1, 24), random_values(2, 8), random_values(3, 24));
        for bias in [None, Some(random_values(4, 8))] {
            let bias = bias.as_deref();
            let NormOutput { mean, rstd, .. } = forward(&x, &weight, bias, 1e-5);
            let mean = bias.map(|_| &*mean);
            let dx = backward(&x, &weight, mean, &rstd, &seed, None);
            assert_derivative("x", &x, &dx, |x| dot(&forward(x, &weight, bias, 1e-5).y, &seed));
            let (d_weight, d_bias) = weight_grad(&x, 8, mean, &rstd, &seed);
            assert_derivative("weight", &weight, &d_weight, |w| dot(&forward(&x, w, bias, 1e-5).y, &seed));
            if let Some(bias) = bias {
                assert_derivative("bias", bias, &d_bias, |b| {
                    dot(&forward(&x, &weight, Some(b), 1e-5).y, &seed)
                });
            }
            let residual = random_values(5, 24);
            let both = backward(&x, &weight, mean, &rstd, &seed, Some(&residual));
            assert!(both.iter().zip(&dx).zip(&residual).all(|((both, dx), r)| (both - dx - r).abs() < 1e-12));
        }
    }
}
