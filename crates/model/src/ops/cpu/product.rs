//! Matrix products on parts of slices.

use gemm::Parallelism;

use super::real::Real;

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
    // SAFETY: guaranteed by the caller.
    unsafe {
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
            match threads {
                Threads::One => Parallelism::None,
                Threads::All => Parallelism::Rayon(0),
            },
        );
    }
}
