//! Numbers that look random and are the same everywhere, also in `benches/peers/*.py`.

/// SplitMix64 (Steele et al. 2014), by its state.
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    /// Returns the next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `limit`, which is positive.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// Returns `count` values in [−1, 1), identical to those of `benches/peers/golden_families.py`:
/// SplitMix64 seeded with the FNV-1a hash of `name`.
pub fn uniform_values(name: &str, count: usize) -> Vec<f64> {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut random = SplitMix(name.bytes().fold(0xcbf2_9ce4_8422_2325, fnv));
    let mut next = || (random.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
    (0..count).map(|_| next()).collect()
}
