//! Blocks of random bits, whose numbers must be the twin's to the bit.

use super::{Argument, Bench, Draws, difference};
use crate::{
    Element,
    dequantise::{self, Blocks},
};

pub(super) fn check(bench: &mut Bench<'_>, element: Element) {
    for kind in Blocks::ALL {
        for blocks in [0, 1, 5, 64] {
            let bytes = random(kind, blocks);
            let want = dequantise::dequantise(kind, &bytes);
            let count = blocks * kind.numbers();
            let arguments = vec![
                Argument::unwritten(element, count),
                Argument::Buffer(bytes),
                Argument::U64(count as u64),
            ];
            let launch = dequantise::launch(count);
            bench.check(&kind.kernel(element), format!("{blocks} blocks"), Ok(launch), arguments, |got| {
                difference(&got[0], &element.encode(&want))
            });
        }
    }
}

/// Random blocks: every bit pattern, but for scales that are infinite or no numbers, whose bits are not defined.
fn random(kind: Blocks, blocks: usize) -> Vec<u8> {
    let mut draws = Draws(kind.bytes() as u64);
    let mut bytes: Vec<u8> = (0..blocks * kind.bytes()).map(|_| draws.next() as u8).collect();
    for block in bytes.chunks_exact_mut(kind.bytes()) {
        for scale in kind.scales() {
            if block[scale + 1] & 0x7c == 0x7c {
                // Below 2⁻¹⁴ instead: those are rare otherwise.
                block[scale + 1] &= 0x83;
            }
        }
    }
    bytes
}
