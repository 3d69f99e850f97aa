//! Log-probabilities of target tokens from logits.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::{Opened, by_dtype, real::Real, tensor};
use crate::pack::Scored;

pub(crate) fn log_prob_of_targets(
    logits: &Tensor,
    scored: &[Scored],
    gradient: bool,
) -> Result<(Vec<f64>, Option<Tensor>)> {
    fn run<T: Real>(
        logits: &Tensor,
        scored: &[Scored],
        gradient: bool,
    ) -> Result<(Vec<f64>, Option<Tensor>)> {
        let (rows, vocabulary) = logits.dims2()?;
        let logits = Opened::new(logits);
        let logits = logits.slice::<T>()?;
        let one_row = |logits: &[T], scored: &Scored, grad: Option<&mut [T]>| {
            let max =
                logits.iter().fold(T::neg_infinity(), |max, logit| if *logit > max { *logit } else { max });
            // Partial sums of one element type, added up in f64: exact enough for any vocabulary.
            let sum: f64 = logits
                .chunks(64)
                .map(|part| {
                    let zero = <T as num_traits::Zero>::zero();
                    part.iter().fold(zero, |sum, logit| sum + (*logit - max).exp_of_negative()).to_f64_exact()
                })
                .sum();
            let target = scored.target as usize;
            if let Some(grad) = grad {
                let inverse = T::of(-sum.recip());
                for (grad, logit) in grad.iter_mut().zip(logits) {
                    *grad = (*logit - max).exp_of_negative() * inverse;
                }
                grad[target] += <T as num_traits::One>::one();
            }
            (logits[target] - max).to_f64_exact() - sum.ln()
        };
        if gradient {
            let mut grad = vec![<T as num_traits::Zero>::zero(); rows * vocabulary];
            let log_probs = grad
                .par_chunks_mut(vocabulary)
                .zip(logits.par_chunks(vocabulary))
                .zip(scored)
                .map(|((grad, logits), scored)| one_row(logits, scored, Some(grad)))
                .collect();
            Ok((log_probs, Some(tensor(grad, (rows, vocabulary))?)))
        } else {
            let rows = logits.par_chunks(vocabulary).zip(scored);
            Ok((rows.map(|(logits, scored)| one_row(logits, scored, None)).collect(), None))
        }
    }
    by_dtype!(logits, run(logits, scored, gradient))
}

trait ToF64 {
    fn to_f64_exact(self) -> f64;
}

impl<T: Real> ToF64 for T {
    fn to_f64_exact(self) -> f64 {
        candle_core::WithDType::to_f64(self)
    }
}
