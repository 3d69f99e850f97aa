//! The types of numbers that kernels read and write.

/// What the numbers of a matrix are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// 32 bits.
    F32,
    /// The upper half of an f32.
    Bf16,
}

impl Element {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::F32, Self::Bf16];

    /// As entries and signatures name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// The nearest number of this type, ties to even.
    pub fn round(self, x: f32) -> f32 {
        match self {
            Self::F32 => x,
            Self::Bf16 => widen(bf16_bits(x)),
        }
    }

    /// The largest error of rounding to this type, relative to the number.
    pub fn half_unit(self) -> f64 {
        match self {
            Self::F32 => 2f64.powi(-24),
            Self::Bf16 => 2f64.powi(-8),
        }
    }

    /// Little-endian bytes of `values`, each rounded to this type.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::Bf16 => values.iter().flat_map(|x| bf16_bits(*x).to_le_bytes()).collect(),
        }
    }

    /// The numbers of [`encode`](Self::encode).
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
