//! Products of operands that are widened to f32, by the kernels of `gemm` for the machine at run
//! time (AVX-512, AVX2 with FMA, NEON or scalar).

use half::bf16;
use rayon::prelude::*;

use super::{Convert, Operand, Place, Right, Stored, Term};
use crate::ops::cpu::{
    lanes::vectorised,
    product::{Target, Threads, View, ViewMut, product_by_rows},
};

/// Columns of a task. Fixed, because the order of the sums may depend on it.
const COLUMNS: usize = 256;

/// Computes a sum of products.
///
/// # Safety
/// As in `super::run`; all operands must be within their slices.
pub(super) unsafe fn run(place: Place, (m, n): (usize, usize), terms: &[Term<'_>], threads: Threads) {
    let lefts: Vec<Vec<f32>> = terms.iter().map(|term| wide_rows(term.left, m, 0, term.k)).collect();
    let task = |first: usize| {
        let columns = COLUMNS.min(n - first);
        let mut sums = vec![0.0; m * columns];
        for (term, left) in terms.iter().zip(&lefts) {
            let right = match term.right {
                Right::Plain(right) => wide_rows(right, term.k, first, columns),
                Right::Transposed(right) => {
                    let right = Operand { at: right.at + first * right.stride, ..right };
                    wide_rows(right, columns, 0, term.k)
                }
            };
            let right = match term.right {
                Right::Plain(_) => View::rows(&right, 0, columns),
                Right::Transposed(_) => View::rows(&right, 0, term.k).transposed(),
            };
            let mut target = ViewMut { data: &mut sums, at: 0, row_stride: columns };
            let shape = (m, columns, term.k);
            let left = View::rows(left, 0, term.k);
            product_by_rows(&mut target, Target::AddTo, shape, 1.0, left, right, Threads::One);
        }
        for (row, sums) in sums.chunks_exact(columns).enumerate() {
            // SAFETY: the columns of this task, which no other task accesses.
            unsafe { write(place, row, first, sums) };
        }
    };
    match threads {
        Threads::All => (0..n.div_ceil(COLUMNS)).into_par_iter().for_each(|index| task(index * COLUMNS)),
        Threads::One => (0..n).step_by(COLUMNS).for_each(task),
    }
}

/// Writes part of a row.
///
/// # Safety
/// The elements must be valid for writing, and their addends for reading.
unsafe fn write(place: Place, row: usize, column: usize, sums: &[f32]) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        match place {
            Place::F32 { to, add, stride } => {
                let at = row * stride + column;
                for (index, sum) in sums.iter().enumerate() {
                    let added = add.map_or(0.0, |add| add.add(at + index).read());
                    to.add(at + index).write(added + sum);
                }
            }
            Place::Bf16 { to, stride } => {
                for (index, sum) in sums.iter().enumerate() {
                    to.add(row * stride + column + index).write(<bf16 as Stored>::round(*sum));
                }
            }
        }
    }
}

/// Returns `columns` columns of the matrix from column `first`, in f32.
fn wide_rows(matrix: Operand<'_>, rows: usize, first: usize, columns: usize) -> Vec<f32> {
    let mut wide = vec![0.0; rows * columns];
    for (row, wide) in wide.chunks_exact_mut(columns.max(1)).enumerate() {
        vectorised(Convert, (wide, &matrix.data[matrix.at + row * matrix.stride + first..][..columns]));
    }
    wide
}
