//! Layers of encoders, whose attention is not causal, on packed `[rows, …]` matrices.

use std::ops::Range;

use candle_core::{D, DType, Device, Result, Tensor};
use rayon::prelude::*;
use serde::Deserialize;

use super::ClassifierInput;
use crate::{
    ModelError,
    architecture::GeluKind,
    layers::{Linear, Norm},
    ops,
    parameters::WeightTensor,
    weights::TensorSource,
};

/// Largest size of the attention scores of a sequence that exist at the same time, in bytes.
const SCORE_BYTES: usize = 32 << 20;

/// Sequences packed one after the other.
pub(super) struct EncoderBatch {
    pub(super) tokens: Vec<u32>,
    /// Segment of each token; empty if the texts have none.
    pub(super) types: Vec<u32>,
    /// Position of each token in its sequence.
    pub(super) positions: Vec<u32>,
    /// Rows of each sequence.
    pub(super) sequences: Vec<Range<usize>>,
}

impl EncoderBatch {
    pub(super) fn pack(texts: &[&ClassifierInput]) -> Self {
        let mut batch =
            Self { tokens: Vec::new(), types: Vec::new(), positions: Vec::new(), sequences: Vec::new() };
        for text in texts {
            let start = batch.tokens.len();
            batch.tokens.extend_from_slice(&text.tokens);
            batch.types.extend_from_slice(&text.types);
            batch.positions.extend(0..text.tokens.len() as u32);
            batch.sequences.push(start..batch.tokens.len());
        }
        batch
    }

    /// Returns an error if a sequence is longer than `positions`, or a token is not in the
    /// vocabulary.
    pub(super) fn check(&self, vocabulary: usize, positions: usize) -> std::result::Result<(), ModelError> {
        if let Some(token) = self.tokens.iter().find(|token| **token as usize >= vocabulary) {
            return Err(ModelError::Tokenizer(format!(
                "token {token} is not in the model's vocabulary of {vocabulary}; use the tokenizer of the model"
            )));
        }
        match self.sequences.iter().map(ExactSizeIterator::len).max() {
            Some(longest) if longest > positions => Err(ModelError::Batch(format!(
                "a text has {longest} tokens, and the model {positions} positions"
            ))),
            _ => Ok(()),
        }
    }

    /// Returns the first row of each sequence of `x`, `[sequences, width]`.
    pub(super) fn first_rows(&self, x: &Tensor) -> Result<Tensor> {
        let first: Vec<u32> = self.sequences.iter().map(|rows| rows.start as u32).collect();
        x.index_select(&Tensor::new(first, x.device())?, 0)
    }

    /// Returns the mean row of each sequence of `x`, `[sequences, width]`.
    pub(super) fn mean_rows(&self, x: &Tensor) -> Result<Tensor> {
        let means = self.sequences.iter().map(|rows| x.narrow(0, rows.start, rows.len())?.mean_keepdim(0));
        Tensor::cat(&means.collect::<Result<Vec<_>>>()?, 0)
    }

    /// Computes attention of each sequence of `q`, `k` and `v`, `[rows, heads·dim]`, by `attend`,
    /// which gets the index of the sequence and its part of each, `[heads, tokens, dim]`, and
    /// returns a tensor of the same shape.
    pub(super) fn attention(
        &self,
        [q, k, v]: [&Tensor; 3],
        heads: usize,
        attend: impl Fn(usize, [Tensor; 3]) -> Result<Tensor> + Sync,
    ) -> Result<Tensor> {
        let by_head = |x: &Tensor, rows: &Range<usize>| -> Result<Tensor> {
            let dim = x.dim(1)? / heads;
            x.narrow(0, rows.start, rows.len())?
                .reshape((rows.len(), heads, dim))?
                .transpose(0, 1)?
                .contiguous()
        };
        let one = |(index, rows): (usize, &Range<usize>)| -> Result<Tensor> {
            let attended = attend(index, [by_head(q, rows)?, by_head(k, rows)?, by_head(v, rows)?])?;
            attended.transpose(0, 1)?.reshape((rows.len(), q.dim(1)?))
        };
        // Operations other than products use one core each.
        let parts: Vec<Tensor> = if q.device().is_cpu() {
            self.sequences.par_iter().enumerate().map(one).collect::<Result<_>>()?
        } else {
            self.sequences.iter().enumerate().map(one).collect::<Result<_>>()?
        };
        Tensor::cat(&parts, 0)
    }
}

/// Divides the queries of a sequence into chunks whose scores with `keys` keys are bounded.
pub(super) fn query_chunks(queries: usize, heads: usize, keys: usize) -> impl Iterator<Item = Range<usize>> {
    let size = (SCORE_BYTES / (heads * keys * DType::F32.size_in_bytes()).max(1)).clamp(1, queries.max(1));
    (0..queries).step_by(size).map(move |start| start..(start + size).min(queries))
}

/// Returns softmax(`scores`)·`v`, of `[heads, queries, keys]` and `[heads, keys, dim]`.
pub(super) fn weighted_values(scores: &Tensor, v: &Tensor) -> Result<Tensor> {
    let exponentials = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
    let sums = exponentials.sum_keepdim(D::Minus1)?;
    exponentials.matmul(v)?.broadcast_div(&sums)
}

/// Activation function, by its name in `transformers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Activation {
    #[serde(rename = "gelu", alias = "gelu_python")]
    Gelu,
    #[serde(rename = "gelu_pytorch_tanh", alias = "gelu_new", alias = "gelu_fast")]
    GeluTanh,
    #[serde(rename = "relu")]
    Relu,
    #[serde(rename = "silu", alias = "swish")]
    Silu,
    #[serde(rename = "tanh")]
    Tanh,
}

impl Activation {
    pub(super) fn apply(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Gelu => ops::gelu(x, GeluKind::Exact),
            Self::GeluTanh => ops::gelu(x, GeluKind::Tanh),
            Self::Relu => x.relu(),
            Self::Silu => x.silu(),
            Self::Tanh => x.tanh(),
        }
    }
}

/// Applies a linear layer to `x`, and adds `residual`.
pub(super) fn apply(linear: &Linear, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
    Ok(linear.forward(x, residual, false)?.0)
}

/// Applies a norm.
pub(super) fn normalise(norm: &Norm, x: &Tensor) -> Result<Tensor> {
    Ok(norm.forward(x, x.dtype())?.0)
}

/// Loads layers by the names of their modules.
pub(super) struct LayerLoader<'a> {
    pub(super) weights: &'a mut dyn TensorSource,
    pub(super) device: &'a Device,
    /// Constant added to the variance in norms.
    pub(super) epsilon: f64,
}

impl LayerLoader<'_> {
    pub(super) fn tensor(&mut self, name: &str, shape: &[usize]) -> std::result::Result<Tensor, ModelError> {
        self.weights.get(name, shape)
    }

    pub(super) fn linear(
        &mut self,
        module: &str,
        [output, input]: [usize; 2],
        bias: bool,
    ) -> std::result::Result<Linear, ModelError> {
        let weight = self.weights.matrix(&format!("{module}.weight"), [output, input])?;
        let bias = if bias { Some(self.tensor(&format!("{module}.bias"), &[output])?) } else { None };
        Ok(Linear::frozen(weight, bias))
    }

    /// Loads a layer norm; without `bias`, its bias is 0.
    pub(super) fn norm(
        &mut self,
        module: &str,
        width: usize,
        bias: bool,
    ) -> std::result::Result<Norm, ModelError> {
        let weight = self.tensor(&format!("{module}.weight"), &[width])?;
        let bias = if bias {
            self.tensor(&format!("{module}.bias"), &[width])?
        } else {
            Tensor::zeros(width, DType::F32, self.device)?
        };
        Ok(Norm {
            weight: WeightTensor::Frozen(weight),
            bias: Some(WeightTensor::Frozen(bias)),
            offset: false,
            epsilon: self.epsilon,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_queries_are_bounded() {
        assert_eq!(query_chunks(10, 2, 100).collect::<Vec<_>>(), std::slice::from_ref(&(0..10)));
        let chunks: Vec<_> = query_chunks(4096, 16, 4096).collect();
        assert_eq!((chunks.len(), chunks[1].clone()), (32, 128..256));
        assert_eq!(query_chunks(3, 1 << 20, 1 << 20).count(), 3);
    }
}
