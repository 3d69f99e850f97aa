//! Damaged copies of files.

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
