//! Products in mixed precision: bf16 operands, f32 sums.
//!
//! | kernel | machine | operands |
//! |---|---|---|
//! | [`avx512`] | AMX-BF16 | packed as pairs along k, one instruction for 16 × 16 sums of 16 pairs |
//! | [`avx512`] | AVX512-BF16 | packed as pairs along k, one dot-product instruction per pair |
//! | [`widened`] | all others | widened to f32 block by block, then multiplied by the kernels of `gemm` |
//!
//! Operands are packed at every use. Packing takes about 5 % of a product of 1024 rows, and storing
//! packed weights for both passes would double their memory. Every element of a result
//! is a sum in a fixed order, so results do not depend on the number of threads.

#![expect(unsafe_code, reason = "threads write disjoint tiles of one result")]

mod attention;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod layers;
mod round;
mod widened;

pub(super) use attention::{attention, attention_backward};
#[cfg(target_arch = "x86_64")]
pub(super) use avx512::has_tiles;
use half::bf16;
pub(super) use layers::{linear, lora_gradients, products};
pub(crate) use round::{Convert, Stored};
pub(super) use round::{rounded, widened as widen};

use super::{
    isa::Isa,
    product::{Target, Threads},
};

/// Kernel of the products in mixed precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    /// Tile registers (AMX-BF16).
    #[cfg(target_arch = "x86_64")]
    AmxBf16,
    /// Dot products of bf16 pairs (AVX512-BF16).
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    /// Operands widened to f32.
    Widened,
}

impl Kernel {
    /// Returns the fastest kernel of this machine, up to the limit of instruction sets.
    pub(super) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if Isa::limit() >= Isa::AmxBf16 && avx512::has_tiles() {
            return Self::AmxBf16;
        }
        #[cfg(target_arch = "x86_64")]
        if Isa::limit() >= Isa::Avx512Bf16 && avx512::is_available() {
            return Self::Avx512Bf16;
        }
        Self::Widened
    }
}

/// Read-only bf16 matrix in a slice: rows are `stride` elements apart.
#[derive(Clone, Copy)]
pub(super) struct Operand<'a> {
    pub(super) data: &'a [bf16],
    pub(super) at: usize,
    pub(super) stride: usize,
}

impl<'a> Operand<'a> {
    /// Creates a matrix whose rows fill the slice.
    pub(super) fn new(data: &'a [bf16], stride: usize) -> Self {
        Self { data, at: 0, stride }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        rows == 0 || columns == 0 || self.at + (rows - 1) * self.stride + columns <= self.data.len()
    }

    fn as_ptr(&self) -> *const bf16 {
        // In range if the matrix has an element; otherwise it is never read.
        self.data.as_ptr().wrapping_add(self.at)
    }
}

/// Right factor of a product.
#[derive(Clone, Copy)]
pub(super) enum Right<'a> {
    /// `[k, n]`.
    Plain(Operand<'a>),
    /// `[n, k]`, to be transposed.
    Transposed(Operand<'a>),
}

/// Product left · right of a sum; `left` is `[m, k]`.
#[derive(Clone, Copy)]
pub(super) struct Term<'a> {
    pub(super) left: Operand<'a>,
    pub(super) right: Right<'a>,
    pub(super) k: usize,
}

impl Term<'_> {
    fn is_valid(&self, m: usize, n: usize) -> bool {
        let right = match self.right {
            Right::Plain(right) => right.holds(self.k, n),
            Right::Transposed(right) => right.holds(n, self.k),
        };
        right && self.left.holds(m, self.k)
    }
}

/// Memory of a result, `[m, n]` with rows `stride` elements apart.
#[derive(Clone, Copy)]
enum Place {
    /// f32, with another matrix of the same layout added, which may be the result's memory itself.
    F32 {
        to: *mut f32,
        add: Option<*const f32>,
        stride: usize,
    },
    Bf16 {
        to: *mut bf16,
        stride: usize,
    },
}

// SAFETY: every task writes elements of its own.
unsafe impl Send for Place {}
// SAFETY: as above.
unsafe impl Sync for Place {}

/// Returns \[onto +\] Σ left·right in f32.
///
/// # Panics
/// Panics if a matrix exceeds its slice, which is a bug in the caller.
pub(super) fn sum_f32((m, n): (usize, usize), onto: Option<&[f32]>, terms: &[Term<'_>]) -> Vec<f32> {
    assert!(onto.is_none_or(|onto| onto.len() == m * n));
    let mut result = Vec::with_capacity(m * n);
    let place = Place::F32 { to: result.as_mut_ptr(), add: onto.map(<[f32]>::as_ptr), stride: n };
    // SAFETY: the result has room for m·n elements, and all of them are written.
    unsafe {
        run(place, (m, n), terms, Threads::All);
        result.set_len(m * n);
    }
    result
}

/// Sets `target`, `[m, n]` with rows `stride` elements apart from `at`, to Σ left·right, or adds
/// that to it.
///
/// # Panics
/// Panics if a matrix exceeds its slice, which is a bug in the caller.
pub(super) fn into_f32(
    (target, at, stride): (&mut [f32], usize, usize),
    mode: Target,
    (m, n): (usize, usize),
    terms: &[Term<'_>],
    threads: Threads,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(at + (m - 1) * stride + n <= target.len() && n <= stride.max(n));
    let to = target[at..].as_mut_ptr();
    // SAFETY: the assertion shows that all elements are within the slice, which is initialised.
    unsafe {
        let add = (mode == Target::AddTo).then_some(to.cast_const());
        run(Place::F32 { to, add, stride }, (m, n), terms, threads);
    }
}

/// Returns Σ left·right, rounded to bf16.
///
/// # Panics
/// Panics if a matrix exceeds its slice, which is a bug in the caller.
pub(super) fn sum_bf16((m, n): (usize, usize), terms: &[Term<'_>]) -> Vec<bf16> {
    let mut result = Vec::with_capacity(m * n);
    let place = Place::Bf16 { to: result.as_mut_ptr(), stride: n };
    // SAFETY: the result has room for m·n elements, and all of them are written.
    unsafe {
        run(place, (m, n), terms, Threads::All);
        result.set_len(m * n);
    }
    result
}

/// Computes a sum of products.
///
/// # Safety
/// `place` must be valid for writing `[m, n]`, and its addend for reading.
unsafe fn run(place: Place, (m, n): (usize, usize), terms: &[Term<'_>], threads: Threads) {
    assert!(terms.iter().all(|term| term.is_valid(m, n)));
    if m == 0 || n == 0 {
        return;
    }
    // SAFETY: guaranteed by the caller and the assertion.
    unsafe {
        match Kernel::detect() {
            #[cfg(target_arch = "x86_64")]
            Kernel::AmxBf16 => avx512::run(avx512::Instructions::Tiles, place, (m, n), terms, threads),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512Bf16 => {
                avx512::run(avx512::Instructions::DotProducts, place, (m, n), terms, threads);
            }
            Kernel::Widened => widened::run(place, (m, n), terms, threads),
        }
    }
}

#[cfg(test)]
mod tests;
