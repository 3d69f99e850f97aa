//! Element types of models on the CPU.

#![expect(clippy::inline_always, reason = "what is not inlined is not compiled for the wide vectors")]

use candle_core::WithDType;
use num_traits::{Float, NumCast};

/// Floating-point type: f32, or f64 to check gradients.
pub(crate) trait Real: WithDType + Float {
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;

    /// Returns e^x for x ≤ 0, accurate to a few units in the last place. Written for
    /// auto-vectorisation.
    fn exp_of_negative(self) -> Self;

    /// Rounds `x` to this type.
    fn nearest(x: f64) -> Self {
        <Self as NumCast>::from(x).unwrap_or_else(Self::nan)
    }

    /// Returns 1/(1 + e^−x).
    #[inline(always)]
    fn sigmoid(self) -> Self {
        let e = (-self.abs()).exp_of_negative();
        (if self >= Self::ZERO { Self::ONE } else { e }) / (Self::ONE + e)
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    #[inline(always)]
    fn exp_of_negative(self) -> Self {
        self.exp()
    }
}

/// 1.5 · 2²³, whose last bit is 1.
const ROUNDING: f32 = 12_582_912.0;

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    /// Computes 2^n · e^r with |r| ≤ ln 2 / 2 and a polynomial of degree 6 for e^r.
    #[inline(always)]
    fn exp_of_negative(self) -> Self {
        // Below −87, e^x is subnormal, which callers may treat as 0.
        let x = self.max(-87.0);
        // The sum has no fraction bits: its last bits are the integer. `round_ties_even` and a
        // conversion to i32 would not be vectorised on all machines.
        let shifted = x * std::f32::consts::LOG2_E + ROUNDING;
        let n = shifted - ROUNDING;
        // ln 2 in two parts, so that r keeps its low bits.
        let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
        let p = 1.0 / 720.0;
        let p = p * r + 1.0 / 120.0;
        let p = p * r + 1.0 / 24.0;
        let p = p * r + 1.0 / 6.0;
        let p = p * r + 0.5;
        let p = p * r * r + r + 1.0;
        let scale =
            f32::from_bits((shifted.to_bits().wrapping_sub(ROUNDING.to_bits()).wrapping_add(127)) << 23);
        if self < -87.0 { 0.0 } else { p * scale }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_exponential_is_exact_enough() {
        for step in 0..870_000 {
            let x = -0.000_1 * step as f32;
            let (fast, exact) = (x.exp_of_negative(), <f64 as From<f32>>::from(x).exp());
            assert!((<f64 as From<f32>>::from(fast) / exact - 1.0).abs() < 5e-7, "{x}: {fast} {exact}");
        }
        assert_eq!((0.0f32.exp_of_negative(), (-1e9f32).exp_of_negative()), (1.0, 0.0));
        assert_eq!(f32::NEG_INFINITY.exp_of_negative(), 0.0);
        assert!(
            (3.0f32.sigmoid() - 0.952_574_1).abs() < 1e-6
                && ((-3.0f32).sigmoid() - 0.047_425_87).abs() < 1e-7
        );
    }
}
