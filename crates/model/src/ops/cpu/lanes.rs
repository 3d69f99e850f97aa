//! Loops that the compiler auto-vectorises.

#![expect(clippy::inline_always, reason = "what is not inlined is not compiled for the wide vectors")]

use std::marker::PhantomData;

use super::{isa::Isa, real::Real};

/// Partial results of a reduction: two of the widest vectors. Fixed, so that sums are the same on
/// all machines.
const LANES: usize = 32;

/// Loop over slices, to be compiled for the widest vectors.
pub(crate) trait Loop<A> {
    /// Result of the loop.
    type Output;

    /// Runs the loop. Must be marked `#[inline(always)]`, as must be what it calls.
    fn run(arguments: A) -> Self::Output;
}

/// Runs a loop, compiled for the widest vectors of this machine, up to the limit of instruction
/// sets.
///
/// Not for closures and pointers to functions, which are compiled once, for the oldest machine, and
/// called from the code for each kind of vectors.
#[inline(always)]
pub(crate) fn vectorised<L: Loop<A>, A>(_: L, arguments: A) -> L::Output {
    vectors(Isa::limit()).dispatch(Call::<L, A> { arguments, of: PhantomData })
}

/// Returns the widest vectors of this machine and an instruction set.
#[inline(always)]
fn vectors(isa: Isa) -> pulp::Arch {
    match isa {
        Isa::Avx512 | Isa::Avx512Bf16 | Isa::AmxBf16 => pulp::Arch::new(),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => pulp::x86::V3::try_new().map_or(pulp::Arch::Scalar, pulp::Arch::V3),
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Avx2 => pulp::Arch::new(),
        Isa::Scalar => pulp::Arch::Scalar,
    }
}

struct Call<L, A> {
    arguments: A,
    of: PhantomData<L>,
}

impl<A, L: Loop<A>> pulp::WithSimd for Call<L, A> {
    type Output = L::Output;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> L::Output {
        L::run(self.arguments)
    }
}

/// Returns the sum of `term(i)` over `0..count`.
#[inline(always)]
pub(super) fn sum<T: Real>(count: usize, term: impl Fn(usize) -> T) -> T {
    fold(count, T::ZERO, term, |sum, value| sum + value)
}

/// Returns the largest of `values`, or −∞ if there are none.
#[inline(always)]
pub(super) fn max<T: Real>(values: &[T]) -> T {
    fold(values.len(), T::neg_infinity(), |i| values[i], |max, value| if value > max { value } else { max })
}

#[inline(always)]
fn fold<T: Real>(count: usize, start: T, term: impl Fn(usize) -> T, join: impl Fn(T, T) -> T) -> T {
    let mut lanes = [start; LANES];
    let whole = count - count % LANES;
    for first in (0..whole).step_by(LANES) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum = join(*sum, term(first + lane));
        }
    }
    for (lane, sum) in lanes.iter_mut().enumerate().take(count - whole) {
        *sum = join(*sum, term(whole + lane));
    }
    lanes.into_iter().fold(start, join)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reductions_cover_every_element_once() {
        for count in 0..100_usize {
            let values: Vec<f64> = (0..count).map(|i| (i * 7 % 31) as f64).collect();
            assert_eq!(sum(count, |i| values[i]), values.iter().sum::<f64>());
            assert_eq!(max(&values), values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        }
    }
}
