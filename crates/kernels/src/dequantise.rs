//! Dequantisation of GGUF blocks.

use crate::{
    Element, Kernel, Launch, Operation, ScalarType,
    kernel::{DEQUANTISE, KernelParameter, read, value, write},
};

const PARAMETERS: &[KernelParameter] =
    &[write("y", ScalarType::Generic), read("blocks", ScalarType::Byte), value("count", ScalarType::U64)];

const fn operation(name: &'static str) -> Operation {
    Operation { source: &DEQUANTISE, name, parameters: PARAMETERS }
}

static Q8_0: Operation = operation("dequantise_q8_0");
static Q4_0: Operation = operation("dequantise_q4_0");
static Q4_K: Operation = operation("dequantise_q4_k");
static Q6_K: Operation = operation("dequantise_q6_k");

pub(crate) static OPERATIONS: &[&Operation] = &[&Q8_0, &Q4_0, &Q4_K, &Q6_K];

/// Returns the launch of every kernel in this module for `count` elements.
pub fn launch(count: usize) -> Launch {
    Launch::elements(count)
}

/// Quantisation format, as ggml defines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockFormat {
    /// 32 × i8 with a scale.
    Q8_0,
    /// 32 × 4 bits with a scale.
    Q4_0,
    /// 256 × 4 bits with a scale and a minimum per 32.
    Q4K,
    /// 256 × 6 bits with a scale per 16.
    Q6K,
}

impl BlockFormat {
    /// All formats with a kernel.
    pub const ALL: [Self; 4] = [Self::Q8_0, Self::Q4_0, Self::Q4K, Self::Q6K];

    /// Returns the kernel of [`dequantise`], which rounds once more for bf16.
    pub fn kernel(self, element: Element) -> Kernel {
        match self {
            Self::Q8_0 => &Q8_0,
            Self::Q4_0 => &Q4_0,
            Self::Q4K => &Q4_K,
            Self::Q6K => &Q6_K,
        }
        .kernel(element)
    }

    /// Returns the elements of a block.
    pub fn elements(self) -> usize {
        match self {
            Self::Q8_0 | Self::Q4_0 => 32,
            Self::Q4K | Self::Q6K => 256,
        }
    }

    /// Returns the bytes of a block.
    pub fn bytes(self) -> usize {
        match self {
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
            Self::Q4K => 144,
            Self::Q6K => 210,
        }
    }

    /// Returns the offsets of the f16 scales of a block.
    pub(crate) fn scale_offsets(self) -> &'static [usize] {
        match self {
            Self::Q8_0 | Self::Q4_0 => &[0],
            Self::Q4K => &[0, 2],
            Self::Q6K => &[208],
        }
    }
}

/// Twin of [`BlockFormat::kernel`]: returns the elements of whole blocks, each product rounded to
/// f32 as in candle and ggml.
pub fn dequantise(kind: BlockFormat, blocks: &[u8]) -> Vec<f32> {
    let one = match kind {
        BlockFormat::Q8_0 => q8_0,
        BlockFormat::Q4_0 => q4_0,
        BlockFormat::Q4K => q4_k,
        BlockFormat::Q6K => q6_k,
    };
    let mut y = Vec::with_capacity(blocks.len() / kind.bytes() * kind.elements());
    blocks.chunks_exact(kind.bytes()).for_each(|block| one(block, &mut y));
    y
}

fn q8_0(block: &[u8], y: &mut Vec<f32>) {
    let scale = half(block, 0);
    y.extend(block[2..].iter().map(|q| f32::from(q.cast_signed()) * scale));
}

fn q4_0(block: &[u8], y: &mut Vec<f32>) {
    let scale = half(block, 0);
    let number = |q: u8| (f32::from(q) - 8.0) * scale;
    y.extend(block[2..].iter().map(|q| number(q & 15)));
    y.extend(block[2..].iter().map(|q| number(q >> 4)));
}

fn q4_k(block: &[u8], y: &mut Vec<f32>) {
    let (scale, minimum) = (half(block, 0), half(block, 2));
    let (small, q) = block[4..].split_at(12);
    // Groups 0 to 3: six bits in their own byte. Groups 4 to 7: four bits, with the upper two bits
    // above those of groups 0 to 3.
    let group = |j: usize| {
        if j < 4 {
            (small[j] & 63, small[j + 4] & 63)
        } else {
            ((small[j + 4] & 15) | (small[j - 4] >> 6) << 4, (small[j + 4] >> 4) | (small[j] >> 6) << 4)
        }
    };
    for (pair, q) in q.chunks_exact(32).enumerate() {
        for (shift, index) in [(0, 2 * pair), (4, 2 * pair + 1)] {
            let (s, m) = group(index);
            let (s, m) = (scale * f32::from(s), minimum * f32::from(m));
            y.extend(q.iter().map(|q| s * f32::from(q >> shift & 15) - m));
        }
    }
}

fn q6_k(block: &[u8], y: &mut Vec<f32>) {
    let (low, rest) = block.split_at(128);
    let (high, rest) = rest.split_at(64);
    let scale = half(rest, 16);
    let parts = low.chunks_exact(64).zip(high.chunks_exact(32)).zip(rest.chunks_exact(8));
    for ((low, high), scales) in parts {
        for quarter in 0..4 {
            for lane in 0..32 {
                let low = low[quarter % 2 * 32 + lane] >> (quarter / 2 * 4) & 15;
                let high = high[lane] >> (2 * quarter) & 3;
                let small = scales[2 * quarter + lane / 16].cast_signed();
                y.push(scale * f32::from(small) * (f32::from(low | high << 4) - 32.0));
            }
        }
    }
}

/// Reads the little-endian f16 at `bytes[at..]`.
fn half(bytes: &[u8], at: usize) -> f32 {
    let bits = u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023) / 1024.0);
    let size = match exponent {
        0 => fraction * 2f32.powi(-14),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction) * 2f32.powi(exponent - 15),
    };
    if bits >> 15 == 1 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_decoded_in_ggmls_layout() {
        // Scale 0.5; 0x38 0x00 is its f16.
        let mut block = vec![0x00, 0x38];
        block.extend((0..32).map(|i| if i == 31 { 0x80 } else { i }));
        let y = dequantise(BlockFormat::Q8_0, &block);
        assert_eq!((y.len(), y[3], y[31]), (32, 1.5, -64.0));

        let mut block = vec![0x00, 0x38];
        block.extend([0xf0; 16]);
        let y = dequantise(BlockFormat::Q4_0, &block);
        assert_eq!((y.len(), y[0], y[16]), (32, -4.0, 3.5));

        // Scale 1, minimum 0.5; group 0 has scale 3 and minimum 2, group 4 scale 16 + 1 and minimum
        // 32 + 5.
        let mut block = vec![0x00, 0x3c, 0x00, 0x38];
        block.extend([0x40 | 3, 0, 0, 0, 0x80 | 2, 0, 0, 0, 0x51, 0, 0, 0]);
        block.extend([7; 128]);
        let y = dequantise(BlockFormat::Q4K, &block);
        assert_eq!((y.len(), y[0], y[128]), (256, 3.0 * 7.0 - 1.0, 17.0 * 7.0 - 18.5));

        let mut block = vec![0x21; 128];
        block.extend([0b11_10_01_00; 64]);
        block.extend((0..16u8).map(|i| i + 1));
        block.extend([0x00, 0x38]);
        let y = dequantise(BlockFormat::Q6K, &block);
        assert_eq!(y.len(), 256);
        // Quarters of the first half: low bits 1, 1, 2, 2; high bits 0, 1, 2, 3; scales 1, 3, 5, 7.
        let want = [(1.0, 1.0), (17.0, 3.0), (34.0, 5.0), (50.0, 7.0)];
        for (quarter, (q, small)) in want.into_iter().enumerate() {
            assert_eq!(y[32 * quarter], 0.5 * small * (q - 32.0));
        }
        assert_eq!(y[255], 0.5 * 16.0 * (50.0 - 32.0));
    }

    #[test]
    fn subnormal_infinite_and_nan_f16_are_read() {
        let known =
            [(0x0001, 5.960_464_5e-8), (0x8400, -6.103_515_6e-5), (0x7bff, 65504.0), (0x3555, 0.333_251_95)];
        for (bits, want) in known {
            assert_eq!(half(&u16::to_le_bytes(bits), 0), want);
        }
        assert_eq!(half(&[0x00, 0xfc], 0), f32::NEG_INFINITY);
        assert!(half(&[0x01, 0x7c], 0).is_nan());
    }
}
