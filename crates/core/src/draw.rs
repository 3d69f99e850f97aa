//! Randomness from keyed hashes of row ids.
//!
//! Whether a row is kept, flipped or held out depends only on `(seed, purpose, row id)`. Results
//! are therefore independent of order, threads and shards, and a smaller fraction selects a subset
//! of a larger one.

use crate::sample::k_lowest;

/// Source of independent random draws, one per id, for one purpose and seed.
#[derive(Debug, Clone)]
pub struct Draw {
    key: [u8; 32],
}

impl Draw {
    /// Creates the draws for `purpose` under `seed`. Different purposes are independent.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("prospect 2026 draw v1");
        hasher.update(&seed.to_le_bytes()).update(purpose.as_bytes());
        Self { key: *hasher.finalize().as_bytes() }
    }

    /// Returns the 32-byte key of this source, for seeding a stream cipher.
    pub fn key(&self) -> [u8; 32] {
        self.key
    }

    /// Returns a uniform 64-bit number for `id`.
    pub fn bits(&self, id: &str) -> u64 {
        let hash = blake3::keyed_hash(&self.key, id.as_bytes());
        let (first, _) = hash.as_bytes().split_at(8);
        first.iter().rev().fold(0, |bits, byte| bits << 8 | u64::from(*byte))
    }

    /// Marks the `count` ids with the lowest draws. Nested: a smaller count marks a subset.
    pub fn lowest<S: AsRef<str>>(&self, ids: &[S], count: usize) -> Vec<bool> {
        let ranked =
            ids.iter().enumerate().map(|(index, id)| (self.bits(id.as_ref()), id.as_ref(), index)).collect();
        let mut marked = vec![false; ids.len()];
        for (_, _, index) in k_lowest(ranked, count) {
            marked[index] = true;
        }
        marked
    }

    /// Keeps the `count` items whose ids have the lowest draws, in their original order. Nested
    /// like [`lowest`](Self::lowest).
    pub fn keep_lowest<T>(&self, items: &mut Vec<T>, count: usize, id: impl Fn(&T) -> &str) {
        let ids: Vec<&str> = items.iter().map(id).collect();
        let mut kept = self.lowest(&ids, count).into_iter();
        items.retain(|_| kept.next().unwrap_or(false));
    }

    /// Returns a random permutation of `0..count`.
    pub fn permutation(&self, count: usize) -> Vec<usize> {
        let mut ranked: Vec<_> = (0..count).map(|index| (self.bits(&index.to_string()), index)).collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(_, index)| index).collect()
    }
}

/// Returns `fraction` of `total` as a number of rows, rounded half away from zero.
pub fn exact_count(fraction: f64, total: usize) -> usize {
    (fraction * total as f64).round() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("row-{index}")).collect()
    }

    proptest! {
        #[test]
        fn smaller_counts_are_subsets(seed: u64, total in 0usize..60, a in 0usize..60, b in 0usize..60) {
            let (draw, ids) = (Draw::new(seed, "keep"), ids(total));
            let (small, large) = (draw.lowest(&ids, a.min(b)), draw.lowest(&ids, a.max(b)));
            prop_assert!(small.iter().zip(&large).all(|(small, large)| !small || *large));
            prop_assert_eq!(small.iter().filter(|kept| **kept).count(), a.min(b).min(total));
        }

        #[test]
        fn the_order_of_rows_does_not_matter(seed: u64, count in 0usize..20) {
            let (draw, forward) = (Draw::new(seed, "keep"), ids(20));
            let backward: Vec<_> = forward.iter().rev().cloned().collect();
            let mut reversed = draw.lowest(&backward, count);
            reversed.reverse();
            prop_assert_eq!(draw.lowest(&forward, count), reversed);
        }

        #[test]
        fn a_permutation_holds_every_index_once(seed: u64, count in 0usize..100) {
            let mut order = Draw::new(seed, "shuffle").permutation(count);
            order.sort_unstable();
            prop_assert_eq!(order, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn draws_are_uniform_and_purposes_independent() {
        let (keep, flip, ids) = (Draw::new(1, "keep"), Draw::new(1, "flip"), ids(20_000));
        let low = |draw: &Draw, id: &String| draw.bits(id) < u64::MAX / 2;
        let kept = ids.iter().filter(|id| low(&keep, id)).count();
        let both = ids.iter().filter(|id| low(&keep, id) && low(&flip, id)).count();
        assert!((9_700..10_300).contains(&kept), "{kept}");
        assert!((4_800..5_200).contains(&both), "{both}");
    }
}
