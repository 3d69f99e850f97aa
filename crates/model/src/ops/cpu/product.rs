//! Matrix products on parts of slices.

#[cfg(target_arch = "x86_64")]
mod limited;

use candle_core::DType;
use gemm::Parallelism;

use super::{isa::Isa, real::Real};

/// Read-only matrix in a slice. `at` is its first element.
#[derive(Clone, Copy)]
pub(super) struct View<'a, T> {
    pub(super) data: &'a [T],
    pub(super) at: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl<'a, T> View<'a, T> {
    /// Creates a matrix with rows `row_stride` elements apart, starting at `at`.
    pub(super) fn rows(data: &'a [T], at: usize, row_stride: usize) -> Self {
        Self { data, at, row_stride, column_stride: 1 }
    }

    /// Returns the transposed matrix.
    pub(super) fn transposed(self) -> Self {
        Self { row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        let last = self.at + (rows - 1) * self.row_stride + (columns - 1) * self.column_stride;
        last < self.data.len()
    }
}

/// Writable matrix in a slice.
pub(super) struct ViewMut<'a, T> {
    pub(super) data: &'a mut [T],
    pub(super) at: usize,
    pub(super) row_stride: usize,
}

/// Effect of a product on its target's previous contents.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Replace,
    AddTo,
}

/// Threads of a product.
#[derive(Clone, Copy)]
pub(super) enum Threads {
    /// Current thread, for products inside a parallel task.
    One,
    /// All threads of the pool.
    All,
}

/// Computes target (m × n) = [target +] scale · left (m × k) · right (k × n).
///
/// # Panics
/// Panics if a matrix exceeds its slice, which is a bug in the caller.
pub(super) fn product<T: Real>(
    target: &mut ViewMut<'_, T>,
    mode: Target,
    (m, n, k): (usize, usize, usize),
    scale: T,
    left: View<'_, T>,
    right: View<'_, T>,
    threads: Threads,
) {
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    let written = View::rows(&*target.data, target.at, target.row_stride);
    assert!(written.holds(m, n) && n <= target.row_stride.max(n) && left.holds(m, k) && right.holds(k, n));
    // SAFETY: the assertion above shows that all accessed elements are within their slices.
    // `target` is borrowed mutably, so it overlaps neither `left` nor `right`.
    #[expect(unsafe_code, reason = "gemm takes pointers")]
    unsafe {
        run(
            target.data.as_mut_ptr().add(target.at),
            target.row_stride,
            mode,
            (m, n, k),
            scale,
            left,
            right,
            threads,
        );
    }
}

/// Returns the number of rows from which on `gemm` computes a row of a product with `n` columns in
/// the same way whatever the number of rows.
///
/// For fewer than two rows, up to 256 elements, or both sides up to 64, it has kernels that sum in
/// another order.
fn least_rows(n: usize) -> usize {
    if n > 64 { 8 } else { (256 / n + 1).max(65) }
}

/// Computes [`product`] such that every row of the target depends on the same row of `left` only,
/// bit for bit: a few rows are computed among rows of zeros.
///
/// # Panics
/// Panics if a matrix exceeds its slice, which is a bug in the caller.
pub(super) fn product_by_rows<T: Real>(
    target: &mut ViewMut<'_, T>,
    mode: Target,
    (m, n, k): (usize, usize, usize),
    scale: T,
    left: View<'_, T>,
    right: View<'_, T>,
    threads: Threads,
) {
    if m == 0 || n == 0 || k == 0 || m >= least_rows(n) {
        return product(target, mode, (m, n, k), scale, left, right, threads);
    }
    let rows = least_rows(n);
    let mut padded_left = vec![T::ZERO; rows * k];
    for (row, padded) in padded_left.chunks_exact_mut(k).take(m).enumerate() {
        for (column, value) in padded.iter_mut().enumerate() {
            *value = left.data[left.at + row * left.row_stride + column * left.column_stride];
        }
    }
    let mut padded = vec![T::ZERO; rows * n];
    let at = |row: usize| target.at + row * target.row_stride;
    for (row, padded) in padded.chunks_exact_mut(n).take(m).enumerate() {
        padded.copy_from_slice(&target.data[at(row)..][..n]);
    }
    let mut into = ViewMut { data: &mut padded, at: 0, row_stride: n };
    product(&mut into, mode, (rows, n, k), scale, View::rows(&padded_left, 0, k), right, threads);
    for (row, padded) in padded.chunks_exact(n).take(m).enumerate() {
        let at = target.at + row * target.row_stride;
        target.data[at..][..n].copy_from_slice(padded);
    }
}

/// Returns the product of [`product_by_rows`] in new memory.
///
/// # Panics
/// Panics if a matrix exceeds its slice, which is a bug in the caller.
pub(super) fn new_product_by_rows<T: Real>(
    shape @ (m, n, _): (usize, usize, usize),
    left: View<'_, T>,
    right: View<'_, T>,
) -> Vec<T> {
    if n == 0 || m >= least_rows(n) {
        return new_product(shape, left, right);
    }
    let mut target = vec![T::ZERO; m * n];
    let mut into = ViewMut { data: &mut target, at: 0, row_stride: n };
    product_by_rows(&mut into, Target::Replace, shape, T::ONE, left, right, Threads::All);
    target
}

/// Returns left (m × k) · right (k × n) in new memory, which is not zeroed first.
///
/// # Panics
/// Panics if a matrix exceeds its slice, which is a bug in the caller.
pub(super) fn new_product<T: Real>(
    (m, n, k): (usize, usize, usize),
    left: View<'_, T>,
    right: View<'_, T>,
) -> Vec<T> {
    if m == 0 || n == 0 || k == 0 {
        return vec![T::ZERO; m * n];
    }
    assert!(left.holds(m, k) && right.holds(k, n));
    let mut target = Vec::with_capacity(m * n);
    // SAFETY: as in `product`. The target's capacity is m·n, and `Replace` writes all elements
    // without reading any.
    #[expect(unsafe_code, reason = "gemm takes pointers")]
    unsafe {
        run(target.as_mut_ptr(), n, Target::Replace, (m, n, k), T::ONE, left, right, Threads::All);
        target.set_len(m * n);
    }
    target
}

/// # Safety
/// All matrices must be within valid memory. `left` and `right`, and with `AddTo` also `target`,
/// must be initialised.
#[expect(unsafe_code, reason = "gemm takes pointers")]
#[expect(clippy::too_many_arguments, reason = "gemm has twenty")]
unsafe fn run<T: Real>(
    target: *mut T,
    row_stride: usize,
    mode: Target,
    (m, n, k): (usize, usize, usize),
    scale: T,
    left: View<'_, T>,
    right: View<'_, T>,
    threads: Threads,
) {
    let add = mode == Target::AddTo;
    let threads = match threads {
        Threads::One => Parallelism::None,
        Threads::All => Parallelism::Rayon(0),
    };
    // SAFETY: guaranteed by the caller.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if T::DTYPE == DType::F32 {
            let view = |view: &View<'_, T>| {
                let strides = (view.row_stride.cast_signed(), view.column_stride.cast_signed());
                (view.data.as_ptr().add(view.at).cast(), strides)
            };
            let ((left, left_strides), (right, right_strides)) = (view(&left), view(&right));
            let matrices = limited::Matrices {
                shape: (m, n, k),
                target: target.cast(),
                target_stride: row_stride.cast_signed(),
                add,
                left,
                left_strides,
                right,
                right_strides,
                scale: scale.to_f64() as f32,
            };
            if limited::multiply(Isa::limit(), &matrices, threads) {
                return;
            }
        }
        gemm::gemm(
            m,
            n,
            k,
            target,
            1,
            row_stride.cast_signed(),
            add,
            left.data.as_ptr().add(left.at),
            left.column_stride.cast_signed(),
            left.row_stride.cast_signed(),
            right.data.as_ptr().add(right.at),
            right.column_stride.cast_signed(),
            right.row_stride.cast_signed(),
            if add { T::ONE } else { T::ZERO },
            scale,
            false,
            false,
            false,
            threads,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers without a pattern, in [−1, 1).
    fn numbers<T: Real>(count: usize, seed: u64) -> Vec<T> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            T::nearest((state >> 33) as f64 / f64::from(1_u32 << 30) - 1.0)
        };
        (0..count).map(|_| next()).collect()
    }

    fn assert_rows_are_independent<T: Real + std::fmt::Debug>() {
        const ROWS: usize = 300;
        for n in [1, 3, 8, 64, 65, 200] {
            for k in [1, 2, 3, 64, 600, 2100] {
                let (left, right) = (numbers::<T>(ROWS * k, 1), numbers::<T>(n * k, 2));
                let right = View::rows(&right, 0, k).transposed();
                let rows = |first: usize, count: usize| {
                    new_product_by_rows((count, n, k), View::rows(&left, first * k, k), right)
                };
                let all = rows(0, ROWS);
                for (first, count) in [(0, 1), (299, 1), (7, 2), (11, 5), (3, 60), (200, 70)] {
                    let expected = &all[first * n..(first + count) * n];
                    assert_eq!(rows(first, count), expected, "{count} rows, {n} columns, {k} terms");
                }
            }
        }
    }

    #[test]
    fn rows_of_a_product_do_not_depend_on_other_rows() {
        for isa in Isa::of_this_machine() {
            isa.limiting(assert_rows_are_independent::<f32>);
        }
        assert_rows_are_independent::<f64>();
    }

    #[test]
    fn products_are_exact_within_rounding_for_every_instruction_set() {
        const SCALE: f32 = 0.5;
        let shapes = [(1, 1, 1), (3, 7, 2), (1, 90, 33), (17, 16, 64), (40, 70, 130), (130, 33, 600)];
        // Miri is too slow for large products.
        let possible = |(m, n, k): &(usize, usize, usize)| !cfg!(miri) || m * n * k < 3000;
        for shape @ (m, n, k) in shapes.into_iter().filter(possible) {
            let (left, right, onto) =
                (numbers::<f32>(m * k, 1), numbers::<f32>(n * k, 2), numbers::<f32>(m * n, 3));
            for isa in Isa::of_this_machine() {
                for transposed in [false, true] {
                    let right_view = if transposed {
                        View::rows(&right, 0, k).transposed()
                    } else {
                        View::rows(&right, 0, n)
                    };
                    let mut sums = onto.clone();
                    isa.limiting(|| {
                        let mut target = ViewMut { data: &mut sums, at: 0, row_stride: n };
                        let left = View::rows(&left, 0, k);
                        product(&mut target, Target::AddTo, shape, SCALE, left, right_view, Threads::All);
                    });
                    for (index, (sum, onto)) in sums.iter().zip(&onto).enumerate() {
                        let (row, column) = (index / n, index % n);
                        let terms = (0..k).map(|x| {
                            let at = if transposed { column * k + x } else { x * n + column };
                            f64::from(SCALE) * f64::from(left[row * k + x]) * f64::from(right[at])
                        });
                        let (exact, size) = terms.fold((f64::from(*onto), 1.0), |(sum, size), term| {
                            (sum + term, size + term.abs())
                        });
                        let bound = (k + 2) as f64 * f64::from(f32::EPSILON) * size;
                        assert!((f64::from(*sum) - exact).abs() <= bound, "{isa:?} {shape:?} at {index}");
                    }
                }
            }
        }
    }
}
