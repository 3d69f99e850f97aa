//! Rotary position embeddings: each pair of a head's first dimensions is turned by the angle of its row.

use crate::{
    Item, KernelError, Launch, Operation,
    kernel::{ROTARY, read, value, write},
    launch::{self, size},
};

/// [`rotate`]. cos and sin are f32 whatever the numbers are; `interleaved` is 0 or 1, `sign` 1, or −1 to rotate back,
/// which is the backward pass. `y` must not lie where `x` lies.
pub static ROTATE: Operation = Operation {
    source: &ROTARY,
    name: "rotary",
    parameters: &[
        write("y", Item::Any),
        read("x", Item::Any),
        read("cos", Item::F32),
        read("sin", Item::F32),
        value("width", Item::U32),
        value("head_dim", Item::U32),
        value("half", Item::U32),
        value("interleaved", Item::U32),
        value("sign", Item::F32),
    ],
};

pub(crate) static OPERATIONS: &[&Operation] = &[&ROTATE];

/// Of [`ROTATE`].
pub fn launch(rows: usize, width: usize) -> Result<Launch, KernelError> {
    let columns = width.div_ceil(launch::THREADS as usize);
    if columns > 0xffff {
        return Err(KernelError::TooMany {
            what: "columns",
            count: width,
            most: 0xffff * launch::THREADS as usize,
        });
    }
    Ok(Launch { grid: [size("rows", rows)?, columns as u32], block: launch::THREADS, shared_bytes: 0 })
}

/// Which dimensions of a head are a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// i and i + half.
    Halves,
    /// 2i and 2i + 1.
    Interleaved,
}

/// The shape of a rotation.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Columns of x: whole heads.
    pub width: usize,
    /// Dimensions of a head; those from 2·half on stay.
    pub head_dim: usize,
    /// Pairs of a head that are rotated.
    pub half: usize,
    /// Which dimensions are a pair.
    pub pairs: Pairs,
}

/// Twin of [`ROTATE`]: (a, b) to (a·cos − b·sin, a·sin + b·cos), with `sign` before sin. `x` is `[rows, width]`, `cos` and
/// `sin` are `[rows, half]`.
pub fn rotate(x: &[f64], cos: &[f64], sin: &[f64], shape: Shape, sign: f64) -> Vec<f64> {
    let Shape { width, head_dim, half, pairs } = shape;
    let mut y = x.to_vec();
    for (row, y) in y.chunks_exact_mut(width).enumerate() {
        for head in y.chunks_exact_mut(head_dim) {
            for i in 0..half {
                let (first, second) = match pairs {
                    Pairs::Halves => (i, i + half),
                    Pairs::Interleaved => (2 * i, 2 * i + 1),
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
    use crate::check::{assert_derivative, dot, numbers};

    #[test]
    fn rotating_back_is_the_derivative() {
        let (x, seed, cos, sin) = (numbers(1, 36), numbers(2, 36), numbers(3, 6), numbers(4, 6));
        for pairs in [Pairs::Halves, Pairs::Interleaved] {
            for head_dim in [4, 6] {
                let shape = Shape { width: 12, head_dim, half: 2, pairs };
                let dx = rotate(&seed, &cos, &sin, shape, -1.0);
                assert_derivative("x", &x, &dx, |x| dot(&rotate(x, &cos, &sin, shape, 1.0), &seed));
            }
        }
    }
}
