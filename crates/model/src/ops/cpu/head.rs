//! Log-probabilities of target tokens from logits.

#![expect(clippy::inline_always, reason = "what is not inlined is not compiled for the wide vectors")]

use std::mem::MaybeUninit;

use candle_core::{DType, Result, Tensor, bail};
use half::bf16;
use rayon::prelude::*;

use super::{
    Opened, Stored,
    lanes::{Loop, max, sum, vectorised},
    real::Real,
    tensor,
};

/// Number of exponentials that are summed in their own type before they are added to the f64 sum.
/// Accurate enough for all vocabularies, and small enough for the first-level cache.
const PART: usize = 1024;

pub(crate) fn log_prob_of_targets(
    logits: &Tensor,
    targets: &Tensor,
    gradient: Option<DType>,
) -> Result<(Tensor, Option<Tensor>)> {
    fn run<T: Real, G: Stored<Wide = T>>(
        logits: &Tensor,
        targets: &[u32],
        gradient: bool,
    ) -> Result<(Vec<f64>, Option<Tensor>)> {
        let (rows, vocabulary) = logits.dims2()?;
        if targets.len() != rows {
            bail!("{rows} rows of logits for {} scored tokens", targets.len());
        }
        let logits = Opened::new(logits);
        let logits = logits.slice::<T>()?.par_chunks(vocabulary).zip(targets);
        if !gradient {
            return Ok((logits.map(|(logits, target)| log_prob(logits, *target).0).collect(), None));
        }
        let mut grad = Vec::with_capacity(rows * vocabulary);
        let log_probs = grad.spare_capacity_mut()[..rows * vocabulary]
            .par_chunks_mut(vocabulary)
            .zip(logits)
            .map(|(grad, (logits, target))| {
                let (log_prob, max, sum) = log_prob(logits, *target);
                let inverse = T::nearest(-sum.recip());
                vectorised(GradientRow, (&mut *grad, logits, max, inverse));
                let target = *target as usize;
                grad[target].write(G::round((logits[target] - max).exp_of_negative() * inverse + T::ONE));
                log_prob
            })
            .collect();
        // SAFETY: there are as many rows of logits as of scored tokens, and `GradientRow` writes
        // every element of a row.
        #[expect(unsafe_code, reason = "the gradient is not cleared before it is written")]
        unsafe {
            grad.set_len(rows * vocabulary);
        }
        Ok((log_probs, Some(tensor(grad, (rows, vocabulary))?)))
    }
    let targets = targets.to_vec1::<u32>()?;
    let (log_probs, gradient) = match (logits.dtype(), gradient) {
        (DType::F32, Some(DType::BF16)) => run::<f32, bf16>(logits, &targets, true),
        (DType::F32, gradient) => run::<f32, f32>(logits, &targets, gradient.is_some()),
        (DType::F64, gradient) => run::<f64, f64>(logits, &targets, gradient.is_some()),
        (other, _) => bail!("log-probs are computed from f32 logits, not {other:?}"),
    }?;
    let rows = log_probs.len();
    Ok((tensor(log_probs, rows)?, gradient))
}

/// Returns the target's log-prob, the largest logit and Σ exp(logit − largest).
fn log_prob<T: Real>(logits: &[T], target: u32) -> (f64, T, f64) {
    let (max, sum) = vectorised(LogSumRow, logits);
    (candle_core::WithDType::to_f64(logits[target as usize] - max) - sum.ln(), max, sum)
}

/// Returns the largest logit and Σ exp(logit − largest), in one pass over memory: the sum is
/// relative to the largest logit so far.
struct LogSumRow;

impl<T: Real> Loop<&[T]> for LogSumRow {
    type Output = (T, f64);

    #[inline(always)]
    fn run(logits: &[T]) -> (T, f64) {
        let (mut largest, mut total) = (T::neg_infinity(), 0.0);
        for part in logits.chunks(PART) {
            let max = max(part);
            if max > largest {
                total *= candle_core::WithDType::to_f64(largest - max).exp();
                largest = max;
            }
            let sum = sum(part.len(), |i| (part[i] - largest).exp_of_negative());
            total += candle_core::WithDType::to_f64(sum);
        }
        (largest, total)
    }
}

/// Computes exp(logit − max) · inverse.
struct GradientRow;

impl<T: Real, G: Stored<Wide = T>> Loop<(&mut [MaybeUninit<G>], &[T], T, T)> for GradientRow {
    type Output = ();

    #[inline(always)]
    fn run((grad, logits, max, inverse): (&mut [MaybeUninit<G>], &[T], T, T)) {
        for (grad, logit) in grad.iter_mut().zip(logits) {
            grad.write(G::round((*logit - max).exp_of_negative() * inverse));
        }
    }
}
