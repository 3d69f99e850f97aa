//! Products of operands that are widened to f32, by the kernels of `gemm` for the machine at run
//! time (AVX-512, AVX2 with FMA, NEON or scalar).

use std::cell::RefCell;

use half::bf16;
use rayon::prelude::*;

use super::{Convert, Operand, Place, Right, Stored, Term};
use crate::ops::cpu::{
    lanes::vectorised,
    product::{Target, Threads, View, ViewMut, product_by_rows},
};

/// Rows, columns and depth of a block of operands in f32: 1.3 MB with the sums, whatever the size of
/// the product. Fixed, because the order of the sums depends on them.
const ROWS: usize = 256;
const COLUMNS: usize = 256;
const DEPTH: usize = 512;

/// Blocks of one thread, kept from product to product.
#[derive(Default)]
struct WideBlocks {
    left: Vec<f32>,
    right: Vec<f32>,
    sums: Vec<f32>,
}

thread_local! {
    static WIDE_BLOCKS: RefCell<WideBlocks> = RefCell::default();
}

/// Computes a sum of products.
///
/// # Safety
/// As in `super::run`; all operands must be within their slices.
pub(super) unsafe fn run(place: Place, (m, n): (usize, usize), terms: &[Term<'_>], threads: Threads) {
    let across = n.div_ceil(COLUMNS);
    let task = |index: usize, wide: &mut WideBlocks| {
        let (top, first) = (index / across * ROWS, index % across * COLUMNS);
        let (rows, columns) = (ROWS.min(m - top), COLUMNS.min(n - first));
        let WideBlocks { left: wide_left, right: wide_right, sums } = wide;
        sums.clear();
        sums.resize(rows * columns, 0.0);
        for (term, start) in blocks(terms) {
            let depth = DEPTH.min(term.k - start);
            widen(wide_left, term.left, (top, start), (rows, depth));
            let right = match term.right {
                Right::Plain(right) => {
                    widen(wide_right, right, (start, first), (depth, columns));
                    View::rows(wide_right, 0, columns)
                }
                Right::Transposed(right) => {
                    widen(wide_right, right, (first, start), (columns, depth));
                    View::rows(wide_right, 0, depth).transposed()
                }
            };
            let mut target = ViewMut { data: sums, at: 0, row_stride: columns };
            let left = View::rows(wide_left, 0, depth);
            product_by_rows(
                &mut target,
                Target::AddTo,
                (rows, columns, depth),
                1.0,
                left,
                right,
                Threads::One,
            );
        }
        for (row, sums) in sums.chunks_exact(columns).enumerate() {
            // SAFETY: the block of this task, which no other task accesses.
            unsafe { write(place, top + row, first, sums) };
        }
    };
    let task = |index: usize| WIDE_BLOCKS.with_borrow_mut(|wide| task(index, wide));
    let tasks = m.div_ceil(ROWS) * across;
    match threads {
        Threads::All => (0..tasks).into_par_iter().for_each(task),
        Threads::One => (0..tasks).for_each(task),
    }
}

/// Returns the terms with the start of each of their blocks along k.
fn blocks<'a, 'b>(terms: &'b [Term<'a>]) -> impl Iterator<Item = (&'b Term<'a>, usize)> {
    terms.iter().flat_map(|term| (0..term.k).step_by(DEPTH).map(move |start| (term, start)))
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

/// Replaces `wide` by the block of the matrix from `top` and `first`, in f32.
fn widen(
    wide: &mut Vec<f32>,
    matrix: Operand<'_>,
    (top, first): (usize, usize),
    (rows, columns): (usize, usize),
) {
    wide.resize(rows * columns, 0.0);
    for (row, wide) in wide.chunks_exact_mut(columns).enumerate() {
        let at = matrix.at + (top + row) * matrix.stride + first;
        vectorised(Convert, (wide, &matrix.data[at..][..columns]));
    }
}
