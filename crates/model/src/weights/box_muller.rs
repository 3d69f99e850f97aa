//! The Box-Muller transform, in functions that the compiler vectorises. Unlike those of the system,
//! they give the same bits on every machine.

#![expect(clippy::inline_always, reason = "what is not inlined is not compiled for the wide vectors")]

use std::f64::consts::{FRAC_2_PI, SQRT_2, TAU};

use crate::ops::Loop;

/// Pairs that are transformed at once.
pub(super) const GROUP: usize = 256;

/// Turns pairs of random bits into pairs of normally distributed values.
pub(super) struct BoxMuller;

impl Loop<(&mut [f32], &[[u64; GROUP]; 2], f64)> for BoxMuller {
    type Output = ();

    #[inline(always)]
    fn run((values, bits, deviation): (&mut [f32], &[[u64; GROUP]; 2], f64)) {
        let [mut cosines, mut sines] = [[0.0; GROUP]; 2];
        for pair in 0..GROUP {
            let radius = (-2.0 * ln(uniform(bits[0][pair]))).sqrt() * deviation;
            let (sine, cosine) = sin_cos(TAU * uniform(bits[1][pair]));
            cosines[pair] = (radius * cosine) as f32;
            sines[pair] = (radius * sine) as f32;
        }
        for (values, (cosine, sine)) in values.chunks_mut(2).zip(cosines.iter().zip(&sines)) {
            for (value, component) in values.iter_mut().zip([cosine, sine]) {
                *value = *component;
            }
        }
    }
}

/// Returns a number in (0, 1], so that the logarithm is finite.
#[inline(always)]
fn uniform(bits: u64) -> f64 {
    ((bits >> 11) + 1) as f64 / (1u64 << 53) as f64
}

/// Returns ln x of a normal number, with an error below one unit in the last place (the method of
/// fdlibm's `e_log.c`).
#[inline(always)]
fn ln(x: f64) -> f64 {
    const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    const EVEN: [f64; 3] = [0.399_999_999_994_094_2, 0.222_221_984_321_497_84, 0.153_138_376_992_093_73];
    const ODD: [f64; 4] =
        [0.666_666_666_666_673_5, 0.285_714_287_436_623_9, 0.181_835_721_616_180_5, 0.147_981_986_051_165_86];

    // x = 2^exponent · mantissa, with the mantissa in [√½, √2).
    let bits = x.to_bits();
    let mantissa = f64::from_bits((bits & MANTISSA) | ONE);
    let above = mantissa >= SQRT_2;
    let mantissa = if above { 0.5 * mantissa } else { mantissa };
    let exponent = integer((bits >> 52) + u64::from(above)) - 1023.0;

    let f = mantissa - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let even = w * (EVEN[0] + w * (EVEN[1] + w * EVEN[2]));
    let odd = z * (ODD[0] + w * (ODD[1] + w * (ODD[2] + w * ODD[3])));
    let half_square = 0.5 * f * f;
    exponent * LN_2_HIGH - ((half_square - (s * (half_square + even + odd) + exponent * LN_2_LOW)) - f)
}

/// Bits of the mantissa.
const MANTISSA: u64 = (1 << 52) - 1;
/// Bits of 1.
const ONE: u64 = 1023 << 52;
/// 2⁵², whose last bit is 1.
const INTEGERS: f64 = 4_503_599_627_370_496.0;

/// Converts a number below 2⁵².
#[inline(always)]
fn integer(bits: u64) -> f64 {
    f64::from_bits(INTEGERS.to_bits() | bits) - INTEGERS
}

/// Returns sine and cosine of an angle in [0, 2π], with errors of about one unit in the last place
/// (the polynomials of fdlibm's `k_sin.c` and `k_cos.c`).
#[inline(always)]
fn sin_cos(angle: f64) -> (f64, f64) {
    /// π/2 in two parts; the first has few enough bits that its multiples are exact.
    const HIGH: f64 = 1.570_796_326_734_125_6;
    const LOW: f64 = 6.077_100_506_506_192e-11;
    const SINE: [f64; 6] = [
        -1.666_666_666_666_663_2e-1,
        8.333_333_333_322_49e-3,
        -1.984_126_982_985_795e-4,
        2.755_731_370_707_006_8e-6,
        -2.505_076_025_340_686_3e-8,
        1.589_690_995_211_55e-10,
    ];
    const COSINE: [f64; 6] = [
        4.166_666_666_666_66e-2,
        -1.388_888_888_887_411e-3,
        2.480_158_728_947_673e-5,
        -2.755_731_435_139_066_3e-7,
        2.087_572_321_298_175e-9,
        -1.135_964_755_778_819_5e-11,
    ];

    // The sum has no fraction bits: its last bits are the number of the quadrant.
    let shifted = angle * FRAC_2_PI + INTEGERS;
    let quadrant = shifted.to_bits();
    let turns = shifted - INTEGERS;
    let r = (angle - turns * HIGH) - turns * LOW;

    let z = r * r;
    let sine = SINE[1] + z * (SINE[2] + z * (SINE[3] + z * (SINE[4] + z * SINE[5])));
    let sine = r + r * z * (SINE[0] + z * sine);
    let cosine = COSINE[1] + z * (COSINE[2] + z * (COSINE[3] + z * (COSINE[4] + z * COSINE[5])));
    let half = 0.5 * z;
    let w = 1.0 - half;
    let cosine = w + (((1.0 - w) - half) + z * z * (COSINE[0] + z * cosine));

    let swapped = quadrant & 1 == 1;
    let (a, b) = if swapped { (cosine, sine) } else { (sine, cosine) };
    let negative = |bit: u64, value: f64| f64::from_bits(value.to_bits() ^ (bit << 63));
    (negative((quadrant >> 1) & 1, a), negative(((quadrant + 1) >> 1) & 1, b))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the distance in units in the last place of `exact`.
    fn distance(value: f64, exact: f64) -> f64 {
        (value - exact).abs() / (f64::EPSILON * exact.abs().max(f64::MIN_POSITIVE))
    }

    #[test]
    fn logarithms_are_exact_to_a_unit_in_the_last_place() {
        for step in 1..=100_000_u64 {
            for x in [step as f64 / 1e5, uniform(step << 11), uniform(u64::MAX - (step << 20))] {
                assert!(ln(x) == x.ln() || distance(ln(x), x.ln()) <= 1.0, "{x}: {} {}", ln(x), x.ln());
            }
        }
        assert_eq!(ln(1.0), 0.0);
    }

    #[test]
    fn sines_and_cosines_are_exact_to_the_precision_of_the_angle() {
        for step in 0..=200_000_u64 {
            let angle = TAU * (step as f64 / 2e5);
            let (sine, cosine) = sin_cos(angle);
            assert!((sine - angle.sin()).abs() < 2.0 * f64::EPSILON, "{angle}: {sine}");
            assert!((cosine - angle.cos()).abs() < 2.0 * f64::EPSILON, "{angle}: {cosine}");
        }
    }
}
