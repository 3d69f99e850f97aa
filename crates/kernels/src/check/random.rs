//! Random inputs of checks.

/// Returns `count` values with mean 0 and variance 1, determined by the seed.
pub(crate) fn random_values(seed: u64, count: usize) -> Vec<f64> {
    let mut draws = SplitMix64(seed);
    (0..count)
        .map(|_| (draws.unit() + draws.unit() + draws.unit() + draws.unit() - 2.0) * 3f64.sqrt())
        .collect()
}

/// SplitMix64 random number generator.
pub(super) struct SplitMix64(pub(super) u64);

impl SplitMix64 {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    /// Returns a value in [0, 1).
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Returns a value below `end`.
    pub(super) fn below(&mut self, end: u64) -> usize {
        (self.next() % end.max(1)) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_values_have_mean_0_and_variance_1() {
        let random_values = random_values(7, 100_000);
        let mean = random_values.iter().sum::<f64>() / 1e5;
        let variance = random_values.iter().map(|x| x * x).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }
}
