//! Rotary position embeddings (RoPE): rotates pairs of a head's dimensions by the angle of the
//! row's position.

use crate::{
    KernelError, Launch, Operation, ScalarType,
    kernel::{ROTARY, read, value, write},
    launch::{self, size},
};

/// Operation of [`rotate`].
///
/// `cos` and `sin` are f32 for all element types. `interleaved` is 0 or 1. `sign` is 1, or −1 for
/// the backward pass, which rotates back. `y` must not alias `x`.
pub static ROTATE: Operation = Operation {
    source: &ROTARY,
    name: "rotary",
    parameters: &[
        write("y", ScalarType::Generic),
        read("x", ScalarType::Generic),
        read("cos", ScalarType::F32),
        read("sin", ScalarType::F32),
        value("width", ScalarType::U32),
        value("head_dim", ScalarType::U32),
        value("half", ScalarType::U32),
        value("interleaved", ScalarType::U32),
        value("sign", ScalarType::F32),
    ],
};

pub(crate) static OPERATIONS: &[&Operation] = &[&ROTATE];

/// Returns the launch of [`ROTATE`].
pub fn launch(rows: usize, width: usize) -> Result<Launch, KernelError> {
    let columns = width.div_ceil(launch::THREADS as usize);
    if columns > 0xffff {
        return Err(KernelError::TooMany {
            what: "columns",
            count: width,
            limit: 0xffff * launch::THREADS as usize,
        });
    }
    Ok(Launch { grid: [size("rows", rows)?, columns as u32], block: launch::THREADS, shared_bytes: 0 })
}

/// Layout of the rotated pairs in a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairLayout {
    /// Dimensions i and i + half.
    Halves,
    /// Dimensions 2i and 2i + 1.
    Interleaved,
}

/// Shape of a rotation.
#[derive(Debug, Clone, Copy)]
pub struct RotaryShape {
    /// Columns of x: heads·head_dim.
    pub width: usize,
    /// Head dimension. Dimensions from 2·half on are copied.
    pub head_dim: usize,
    /// Number of rotated pairs in a head.
    pub half: usize,
    /// Layout of the pairs.
    pub pairs: PairLayout,
}

/// Twin of [`ROTATE`]: maps each pair (a, b) to (a·cos − sign·b·sin, sign·a·sin + b·cos).
///
/// `x` is `[rows, width]`; `cos` and `sin` are `[rows, half]`.
pub fn rotate(x: &[f64], cos: &[f64], sin: &[f64], shape: RotaryShape, sign: f64) -> Vec<f64> {
    let RotaryShape { width, head_dim, half, pairs } = shape;
    let mut y = x.to_vec();
    for (row, y) in y.chunks_exact_mut(width).enumerate() {
        for head in y.chunks_exact_mut(head_dim) {
            for i in 0..half {
                let (first, second) = match pairs {
                    PairLayout::Halves => (i, i + half),
                    PairLayout::Interleaved => (2 * i, 2 * i + 1),
                };
                let (c, s) = (cos[row * half + i], sign * sin[row * half + i]);
                let (a, b) = (head[first], head[second]);
                (head[first], head[second]) = (a * c - b * s, a * s + b * c);
            }
        }
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{assert_derivative, dot, random_values};

    #[test]
    fn rotating_back_is_the_derivative() {
        let (x, seed, cos, sin) =
            (random_values(1, 36), random_values(2, 36), random_values(3, 6), random_values(4, 6));
        for pairs in [PairLayout::Halves, PairLayout::Interleaved] {
            for head_dim in [4, 6] {
                let shape = RotaryShape { width: 12, head_dim, half: 2, pairs };
                let dx = rotate(&seed, &cos, &sin, shape, -1.0);
                assert_derivative("x", &x, &dx, |x| dot(&rotate(x, &cos, &sin, shape, 1.0), &seed));
            }
        }
    }
}
