//! Small matrix products on parts of slices.

use gemm::Parallelism;

use super::real::Real;

/// A matrix inside a slice: `at` is its first element.
#[derive(Clone, Copy)]
pub(super) struct View<'a, T> {
    pub(super) data: &'a [T],
    pub(super) at: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl<'a, T> View<'a, T> {
    /// Rows of `row_stride` elements, starting at `at`.
    pub(super) fn rows(data: &'a [T], at: usize, row_stride: usize) -> Self {
        Self { data, at, row_stride, column_stride: 1 }
    }

    /// The transposed matrix.
    pub(super) fn transposed(self) -> Self {
        Self { row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        let last = self.at + (rows - 1) * self.row_stride + (columns - 1) * self.column_stride;
        last < self.data.len()
    }
}

/// A matrix inside a slice that is written.
pub(super) struct ViewMut<'a, T> {
    pub(super) data: &'a mut [T],
    pub(super) at: usize,
    pub(super) row_stride: usize,
}

/// target (m × n) = [target +] scale · left (m × k) · right (k × n), on one thread.
///
/// # Panics
/// If a matrix does not lie within its slice: a bug in the caller.
pub(super) fn product<T: Real>(
    target: &mut ViewMut<'_, T>,
    add: bool,
    (m, n, k): (usize, usize, usize),
    scale: T,
    left: View<'_, T>,
    right: View<'_, T>,
) {
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    let written = View::rows(&*target.data, target.at, target.row_stride);
    assert!(written.holds(m, n) && n <= target.row_stride.max(n) && left.holds(m, k) && right.holds(k, n));
    let one = <T as num_traits::One>::one();
    let zero = <T as num_traits::Zero>::zero();
    // SAFETY: the assertion above shows that every element which is read or written lies within its slice; `target`
    // is borrowed mutably and so overlaps neither `left` nor `right`.
    #[expect(unsafe_code, reason = "gemm takes pointers")]
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            target.data.as_mut_ptr().add(target.at),
            1,
            target.row_stride.cast_signed(),
            add,
            left.data.as_ptr().add(left.at),
            left.column_stride.cast_signed(),
            left.row_stride.cast_signed(),
            right.data.as_ptr().add(right.at),
            right.column_stride.cast_signed(),
            right.row_stride.cast_signed(),
            if add { one } else { zero },
            scale,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
