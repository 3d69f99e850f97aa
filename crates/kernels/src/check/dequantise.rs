//! Blocks of random bits, which must agree with the twin to the bit.

use super::{Argument, CheckRunner, SplitMix64, bit_difference};
use crate::{
    Element,
    dequantise::{self, BlockFormat},
};

pub(super) fn check(runner: &mut CheckRunner<'_>, element: Element) {
    for kind in BlockFormat::ALL {
        for blocks in [0, 1, 5, 64] {
            let bytes = random(kind, blocks);
            let want = dequantise::dequantise(kind, &bytes);
            let count = blocks * kind.elements();
            let arguments = vec![
                Argument::unwritten(element, count),
                Argument::Buffer(bytes),
                Argument::U64(count as u64),
            ];
            let launch = dequantise::launch(count);
            runner.check(&kind.kernel(element), format!("{blocks} blocks"), Ok(launch), arguments, |got| {
                bit_difference(&got[0], &element.encode(&want))
            });
        }
    }
}

/// Returns random blocks with all bit patterns except infinite and NaN scales, whose result is not
/// defined to the bit.
fn random(kind: BlockFormat, blocks: usize) -> Vec<u8> {
    let mut draws = SplitMix64(kind.bytes() as u64);
    let mut bytes: Vec<u8> = (0..blocks * kind.bytes()).map(|_| draws.next() as u8).collect();
    for block in bytes.chunks_exact_mut(kind.bytes()) {
        for scale in kind.scale_offsets() {
            if block[scale + 1] & 0x7c == 0x7c {
                // Subnormal scales instead, which are rare otherwise.
                block[scale + 1] &= 0x83;
            }
        }
    }
    bytes
}
