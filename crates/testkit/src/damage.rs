//! Damaged copies of files.

use crate::split_mix::SplitMix;

/// Returns copies of `bytes` with one changed byte and the position of the change. The `count`
/// positions are spread evenly from the first to the last byte. An empty file has none.
pub fn flipped(bytes: &[u8], count: usize) -> impl Iterator<Item = (usize, Vec<u8>)> {
    let last = bytes.len().saturating_sub(1);
    let mut positions: Vec<usize> = (0..count).map(|index| index * last / (count - 1).max(1)).collect();
    positions.dedup();
    positions.retain(|position| *position < bytes.len());
    let changes = [0x01, 0x20, 0x80, 0xff].into_iter().cycle();
    positions.into_iter().zip(changes).map(|(position, change)| {
        let mut copy = bytes.to_vec();
        copy[position] ^= change;
        (position, copy)
    })
}

/// Bytes at the start of a file that half of all changes fall on: headers are there.
const HEADER: usize = 4096;

/// Returns a copy of `bytes` with one to four changes that depend on `round` alone: flipped bits,
/// extreme bytes, claims of huge lengths, cuts, and repeated or removed parts.
pub fn mutated(bytes: &[u8], round: u64) -> Vec<u8> {
    let mut random = SplitMix(round);
    let mut copy = bytes.to_vec();
    for _ in 0..=random.below(4) {
        if copy.is_empty() {
            break;
        }
        let within = if random.below(2) == 0 { copy.len() } else { copy.len().min(HEADER) };
        let position = random.below(within);
        change(&mut copy, position, &mut random);
    }
    copy
}

fn change(copy: &mut Vec<u8>, position: usize, random: &mut SplitMix) {
    let rest = copy.len() - position;
    match random.below(7) {
        0 => copy[position] ^= 1 << random.below(8),
        1 => copy[position] = [0x00, 0x7f, 0x80, 0xff][random.below(4)],
        2 => {
            let claim = (u64::MAX >> random.below(40)).to_le_bytes();
            let count = rest.min(claim.len());
            copy[position..position + count].copy_from_slice(&claim[..count]);
        }
        3 => copy.truncate(position),
        4 => drop(copy.drain(position..position + rest.min(1 + random.below(16)))),
        5 => {
            let part = copy[position..position + rest.min(1 + random.below(64))].to_vec();
            copy.splice(position..position, part);
        }
        _ => {
            // The next number of a text format.
            let digit = |byte: &u8| byte.is_ascii_digit();
            if let Some(start) = copy[position..].iter().position(digit).map(|at| position + at) {
                let length = copy[start..].iter().take_while(|byte| digit(byte)).count();
                let numbers = ["-1", "0", "1e99", "4294967296", "99999999999999999999"];
                copy.splice(start..start + length, numbers[random.below(5)].bytes());
            }
        }
    }
}

/// Returns the number of mutated files that a test tries: `PROSPECT_FUZZ_ROUNDS`, or `least`.
pub fn fuzz_rounds(least: u64) -> u64 {
    std::env::var("PROSPECT_FUZZ_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(least)
}
