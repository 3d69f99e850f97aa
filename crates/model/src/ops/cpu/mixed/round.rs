//! Conversion between f32 and bf16.

#![expect(clippy::inline_always, reason = "what is not inlined is not compiled for the wide vectors")]

use half::bf16;
use rayon::prelude::*;

use super::super::{
    lanes::{Loop, vectorised},
    real::Real,
};

/// Element type in memory, with the type it is computed in.
pub(crate) trait Stored: Copy + Send + Sync + candle_core::WithDType {
    /// Type of the arithmetic.
    type Wide: Real;
    /// Zero.
    const NOTHING: Self;

    /// Converts to the type of the arithmetic.
    fn wide(self) -> Self::Wide;

    /// Rounds to the nearest value of this type.
    fn round(value: Self::Wide) -> Self;
}

impl Stored for f32 {
    type Wide = f32;
    const NOTHING: Self = 0.0;

    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }

    #[inline(always)]
    fn round(value: f32) -> Self {
        value
    }
}

impl Stored for f64 {
    type Wide = f64;
    const NOTHING: Self = 0.0;

    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }

    #[inline(always)]
    fn round(value: f64) -> Self {
        value
    }
}

impl Stored for bf16 {
    type Wide = f32;
    const NOTHING: Self = bf16::ZERO;

    #[inline(always)]
    fn wide(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    /// Rounds half to even, without branches.
    #[inline(always)]
    fn round(value: f32) -> Self {
        let bits = value.to_bits();
        let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1))) >> 16;
        // Keeps a NaN from becoming an infinity.
        bf16::from_bits(if value.is_nan() { (bits >> 16) | 0x40 } else { rounded } as u16)
    }
}

/// Elements per task.
const BLOCK: usize = 1 << 14;

/// Returns the values rounded to bf16.
pub(in crate::ops::cpu) fn rounded(values: &[f32]) -> Vec<bf16> {
    converted::<_, bf16>(values)
}

/// Returns the values in f32.
pub(in crate::ops::cpu) fn widened(values: &[bf16]) -> Vec<f32> {
    converted::<_, f32>(values)
}

fn converted<A: Stored<Wide = f32>, B: Stored<Wide = f32>>(values: &[A]) -> Vec<B> {
    let mut result = vec![B::NOTHING; values.len()];
    result.par_chunks_mut(BLOCK).zip(values.par_chunks(BLOCK)).for_each(|parts| vectorised(Convert, parts));
    result
}

/// Converts values to another type in memory.
pub(crate) struct Convert;

impl<A: Stored<Wide = f32>, B: Stored<Wide = f32>> Loop<(&mut [B], &[A])> for Convert {
    type Output = ();

    #[inline(always)]
    fn run((result, values): (&mut [B], &[A])) {
        for (result, value) in result.iter_mut().zip(values) {
            *result = B::round(value.wide());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_that_of_half() {
        let mut bits = 1u32;
        let special = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e-40];
        let drawn = (0..if cfg!(miri) { 1000 } else { 100_000 }).map(|_| {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from_bits(bits)
        });
        let values: Vec<f32> = special.into_iter().chain(drawn).collect();
        for (value, rounded) in values.iter().zip(rounded(&values)) {
            if value.is_nan() {
                assert!(rounded.is_nan());
            } else {
                assert_eq!(rounded.to_bits(), bf16::from_f32(*value).to_bits(), "{value}");
                assert_eq!(rounded.wide(), rounded.to_f32());
            }
        }
    }
}
