//! MinHash signatures (Broder 1997), which estimate the Jaccard similarity of texts.
//!
//! A text is the set of its word trigrams (lower case, letters and digits only). Its signature
//! holds the smallest hash of the set for each of 128 hash functions. Two signatures agree at a
//! position with a probability equal to the Jaccard similarity of the sets, so the fraction of
//! equal positions estimates it, with a standard error of at most 0.044.

use serde::{Deserialize, Serialize};

use crate::Message;

/// Length of a signature.
const HASHES: usize = 128;

/// Smallest hash of a text's shingles, for each hash function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Signature(Box<[u32]>);

impl Signature {
    /// Computes the signature of a conversation.
    pub(crate) fn new(messages: &[Message]) -> Self {
        let mut least = vec![u32::MAX; HASHES];
        let words: Vec<u64> = messages
            .iter()
            .flat_map(|message| message.content.split(|c: char| !c.is_alphanumeric()))
            .filter(|word| !word.is_empty())
            .map(|word| {
                word.chars().flat_map(char::to_lowercase).fold(SEED, |hash, c| mix(hash ^ u64::from(c)))
            })
            .collect();
        // A text of fewer than three words is one shingle.
        for shingle in words.windows(words.len().clamp(1, SHINGLE)) {
            let mut hash = shingle.iter().fold(SEED, |hash, word| mix(hash.rotate_left(5) ^ word));
            for least in &mut least {
                // The hash functions are consecutive outputs of SplitMix64, seeded with the
                // shingle.
                hash = hash.wrapping_add(SEED);
                *least = (*least).min((mix(hash) >> 32) as u32);
            }
        }
        Self(least.into())
    }

    /// Estimates the Jaccard similarity.
    pub(crate) fn similarity(&self, other: &Self) -> f64 {
        let equal = self.0.iter().zip(&other.0).filter(|(one, other)| one == other).count();
        equal as f64 / HASHES as f64
    }
}

/// Words in a shingle.
const SHINGLE: usize = 3;

/// SplitMix64's increment: the golden ratio in 64 bits.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's output function.
fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Locality-sensitive hashing: signatures are cut into bands, and two texts are compared only if
/// they agree in a band.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Banding {
    /// Positions in a band.
    rows: usize,
}

impl Banding {
    /// Chooses the longest bands that find at least 99 % of the texts with similarity `threshold`.
    pub(crate) fn for_threshold(threshold: f64) -> Self {
        let found = |rows: usize| {
            let bands = (HASHES / rows) as f64;
            1.0 - (1.0 - threshold.powf(rows as f64)).powf(bands)
        };
        let rows = [32, 16, 8, 4, 2].into_iter().find(|rows| found(*rows) >= 0.99).unwrap_or(1);
        Self { rows }
    }

    /// Iterates over the bands of a signature, each with a hash of its content.
    pub(crate) fn buckets(self, signature: &Signature) -> impl Iterator<Item = (usize, u64)> {
        let bands = signature.0.chunks_exact(self.rows).enumerate();
        bands.map(|(band, rows)| (band, rows.iter().fold(SEED, |hash, row| mix(hash ^ u64::from(*row)))))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn signature(words: &[String]) -> Signature {
        Signature::new(&[Message::user(words.join(" "))])
    }

    #[test]
    fn the_estimate_is_near_the_similarity() {
        for changed in [0, 3, 10, 30, 100] {
            let one: Vec<String> = (0..300).map(|n| format!("w{n}")).collect();
            let mut other = one.clone();
            for word in other.iter_mut().take(changed) {
                word.push('x');
            }
            let shingles =
                |words: &[String]| words.windows(3).map(<[String]>::to_vec).collect::<HashSet<_>>();
            let (a, b) = (shingles(&one), shingles(&other));
            let exact = a.intersection(&b).count() as f64 / a.union(&b).count() as f64;
            let estimate = signature(&one).similarity(&signature(&other));
            assert!((estimate - exact).abs() < 0.13, "{changed}: {estimate} for {exact}");
        }
    }

    #[test]
    fn case_and_punctuation_do_not_matter_and_words_do() {
        let one = Signature::new(&[Message::user("How do I bake bread, at home?")]);
        assert_eq!(one, Signature::new(&[Message::user("how do i bake - bread at home")]));
        assert_eq!(
            one,
            Signature::new(&[Message::user("how do i bake"), Message::assistant("bread at home")])
        );
        assert_ne!(Signature::new(&[Message::user("yes")]), Signature::new(&[Message::user("no")]));
    }

    #[test]
    fn similar_texts_share_a_band() {
        let banding = Banding::for_threshold(0.8);
        assert_eq!(banding.rows, 4);
        let missed = (0..400).filter(|n| {
            let one: Vec<String> = (0..100).map(|k| format!("{n}w{k}")).collect();
            // 89 of 109 shingles are shared.
            let mut other = one.clone();
            other.truncate(91);
            other.extend((0..10).map(|k| format!("{n}x{k}")));
            let (one, other) = (signature(&one), signature(&other));
            let buckets: HashSet<_> = banding.buckets(&one).collect();
            !banding.buckets(&other).any(|bucket| buckets.contains(&bucket))
        });
        assert_eq!(missed.count(), 0);
    }
}
