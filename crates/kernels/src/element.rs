//! Element types of kernels.

use std::fmt;

/// Element type of a matrix. Its `Display` form, `f32` or `bf16`, is the suffix of kernel entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// 32-bit float.
    F32,
    /// bfloat16: the upper half of an f32.
    Bf16,
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

impl Element {
    /// All element types.
    pub const ALL: [Self; 2] = [Self::F32, Self::Bf16];

    /// Rounds to the nearest value of this type, ties to even.
    pub fn round(self, x: f32) -> f32 {
        match self {
            Self::F32 => x,
            Self::Bf16 => widen(bf16_bits(x)),
        }
    }

    /// Returns the unit roundoff: the largest relative error of rounding to this type.
    pub fn half_ulp(self) -> f64 {
        match self {
            Self::F32 => 2f64.powi(-24),
            Self::Bf16 => 2f64.powi(-8),
        }
    }

    /// Rounds `values` to this type and returns their little-endian bytes.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::Bf16 => values.iter().flat_map(|x| bf16_bits(*x).to_le_bytes()).collect(),
        }
    }

    /// Decodes the bytes of [`encode`](Self::encode).
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F32 => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            Self::Bf16 => bytes.as_chunks().0.iter().map(|bytes| widen(u16::from_le_bytes(*bytes))).collect(),
        }
    }
}

/// Rounds to nearest, ties to even; NaN stays NaN.
fn bf16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = if x.is_nan() { bits >> 16 | 0x40 } else { (bits + 0x7fff + (bits >> 16 & 1)) >> 16 };
    rounded as u16
}

fn widen(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_is_the_nearest_and_ties_go_to_even() {
        let one = 0x3f80;
        assert_eq!(bf16_bits(1.0), one);
        assert_eq!(bf16_bits(1.0 + 2f32.powi(-8)), one);
        assert_eq!(bf16_bits(1.0 + 3.0 * 2f32.powi(-8)), one + 2);
        assert_eq!(bf16_bits(1.0 + 2f32.powi(-8) + 2f32.powi(-20)), one + 1);
        assert_eq!(bf16_bits(f32::MAX), 0x7f80);
        assert_eq!(bf16_bits(f32::NEG_INFINITY), 0xff80);
        assert!(widen(bf16_bits(f32::NAN)).is_nan());
        assert!(widen(bf16_bits(f32::from_bits(0x7f80_0001))).is_nan());
        for bits in 0..=u16::MAX {
            if !widen(bits).is_nan() {
                assert_eq!(bf16_bits(widen(bits)), bits);
            }
        }
    }
}
