//! Attention of new tokens to cached keys and values: one task per sequence and key head.

#![expect(clippy::inline_always, reason = "what is not inlined is not compiled for the wide vectors")]

use candle_core::{Result, Tensor};
use num_traits::Float;
use rayon::prelude::*;

use super::{
    Opened, Stored, by_stored,
    lanes::{Loop, max, sum, vectorised},
    real::Real,
    tensor,
};
use crate::{architecture::AttentionHeads, ops::CachedSequence};

/// Partial sums of a score.
const LANES: usize = 16;

pub(crate) fn attention_to_cache(
    q: &Tensor,
    sequences: &[CachedSequence<'_>],
    heads: AttentionHeads,
) -> Result<Tensor> {
    fn run<T: Stored>(q: &Tensor, sequences: &[CachedSequence<'_>], heads: AttentionHeads) -> Result<Tensor> {
        let (shape, dim) = (q.dims2()?, heads.dim);
        let q = Opened::new(q);
        let q = q.slice::<T>()?;
        let opened: Vec<_> = sequences
            .iter()
            .map(|sequence| (Opened::new(sequence.keys), Opened::new(sequence.values)))
            .collect();
        let cached = opened.iter().map(|(keys, values)| Ok((keys.slice::<T>()?, values.slice::<T>()?)));
        let cached = cached.collect::<Result<Vec<_>>>()?;
        let mut y = vec![T::NOTHING; q.len()];
        let width = heads.query / heads.key * dim;
        y.par_chunks_mut(width).enumerate().for_each(|(index, y)| {
            let (sequence, head) = (index / heads.key, index % heads.key);
            let (keys, values) = cached[sequence];
            let seen = &sequences[sequence].seen;
            let first = head * (keys.len() / heads.key);
            let seen = first + seen.start * dim..first + seen.end * dim;
            let scale = T::Wide::nearest(heads.scale);
            let q = &q[index * width..][..width];
            vectorised(AttendToCache, (q, &keys[seen.clone()], &values[seen], y, dim, scale));
        });
        tensor(y, shape)
    }
    by_stored!(q, run(q, sequences, heads))
}

/// Attention of the query heads of one key head: `[heads, dim]`, to `[cached, dim]`.
struct AttendToCache;

impl<T: Stored> Loop<(&[T], &[T], &[T], &mut [T], usize, T::Wide)> for AttendToCache {
    type Output = ();

    #[inline(always)]
    fn run((q, keys, values, y, dim, scale): (&[T], &[T], &[T], &mut [T], usize, T::Wide)) {
        let mut scores = vec![T::Wide::ZERO; keys.len() / dim];
        let mut sums = vec![T::Wide::ZERO; dim];
        for (q, y) in q.chunks_exact(dim).zip(y.chunks_exact_mut(dim)) {
            for (score, key) in scores.iter_mut().zip(keys.chunks_exact(dim)) {
                *score = scale * dot(q, key);
            }
            let max = max(&scores);
            for score in &mut scores {
                *score = (*score - max).exp_of_negative();
            }
            let inverse = sum(scores.len(), |i| scores[i]).recip();
            sums.fill(T::Wide::ZERO);
            for (score, value) in scores.iter().zip(values.chunks_exact(dim)) {
                let p = *score * inverse;
                for (sum, value) in sums.iter_mut().zip(value) {
                    *sum += p * value.wide();
                }
            }
            for (y, sum) in y.iter_mut().zip(&sums) {
                *y = T::round(*sum);
            }
        }
    }
}

/// Returns the dot product. Partial sums are added pairwise, since a chain of additions would take
/// longer than the products.
#[inline(always)]
fn dot<T: Stored>(a: &[T], b: &[T]) -> T::Wide {
    let mut lanes = [T::Wide::ZERO; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a.wide() * b.wide();
        }
    }
    for ((lane, a), b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane += a.wide() * b.wide();
    }
    let mut count = LANES;
    while count > 1 {
        count /= 2;
        for lane in 0..count {
            lanes[lane] += lanes[lane + count];
        }
    }
    lanes[0]
}
