//! Arithmetic of a training step.

use serde::Serialize;

use super::{BatchSize, parameter_count::ParameterCount};
use crate::{Architecture, ModelError, Train};

/// Floating-point operations of passes over a batch.
///
/// Only matrix products count, with two operations for each multiply-add. Recomputed activations do
/// not count, so that a rate in these units is a model FLOP utilisation (arXiv 2204.02311). Of
/// attention, only the products that the causal mask leaves count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Flops {
    /// Forward pass of the base model.
    pub forward: u64,
    /// Additional operations of the adapter's forward pass.
    pub adapter: u64,
    /// Backward pass, including the adapter's.
    pub backward: u64,
}

impl Flops {
    /// Counts the operations of a batch.
    ///
    /// N is the number of elements in the matrices of the blocks, L that in the adapter, and d the
    /// number of dimensions of all query heads together.
    ///
    /// * Forward: 2·N a row, 2·hidden·vocabulary a scored token, and 4·d a layer for each row that
    ///   a row attends to. Rows that a sliding window hides count as attended to.
    /// * Adapter: 2·L a row.
    /// * Backward, for the rows and tokens with gradient: the same again for the gradient of the
    ///   inputs (attention has four products instead of two), and once more for that of the
    ///   matrices if they are trained.
    pub fn for_batch(
        architecture: &Architecture,
        train: Train,
        batch: &BatchSize,
    ) -> Result<Self, ModelError> {
        let a = architecture;
        let matrices = ParameterCount::new(a)?.matrices;
        let frozen: u64 = matrices.iter().map(|[out, into]| (out * into) as u64).sum();
        let (adapter, gradients) = match train {
            Train::Lora(lora) => (matrices.iter().map(|[out, into]| (lora.r * (out + into)) as u64).sum(), 1),
            Train::Full => (0, 2),
        };
        let head = (a.hidden * a.vocabulary) as u64;
        let attention = (a.layers * a.query_heads * a.head_dim) as u64;
        Ok(Self {
            forward: 2 * (batch.rows * frozen + batch.scored * head) + 4 * batch.attended * attention,
            adapter: 2 * batch.rows * adapter,
            backward: 2
                * (gradients * (batch.gradient_rows * frozen + batch.gradient_scored * head)
                    + 2 * batch.gradient_rows * adapter)
                + 8 * batch.gradient_attended * attention,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LoraConfig, Packer};

    #[test]
    fn every_product_is_counted_once() {
        let architecture: Architecture = serde_json::from_str(
            r#"{"vocab_size": 11, "hidden_size": 8, "intermediate_size": 5, "num_hidden_layers": 3,
                "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 6, "max_position_embeddings": 32}"#,
        )
        .unwrap();
        let mut packer = Packer::default();
        let prompt = packer.add_prompt(&[1, 2, 3]);
        packer.add_completion(prompt, &[4, 5, 6], true);
        packer.add_completion(prompt, &[7, 8], false);
        let batch = BatchSize::from(&packer.pack().unwrap());
        // Prompt 1 + 2 + 3, first completion 4 + 5, second one 4.
        assert_eq!(
            (batch.rows, batch.gradient_rows, batch.attended, batch.gradient_attended),
            (6, 5, 19, 15)
        );
        assert_eq!((batch.scored, batch.gradient_scored), (5, 3));

        // q, k, v, output, gate, up and down of each of three layers; 12 query dimensions together.
        let (shapes, layers) = ([(12, 8), (6, 8), (6, 8), (8, 12), (5, 8), (5, 8), (8, 5)], 3);
        let matrices: u64 = shapes.iter().map(|(out, into)| layers * out * into).sum();
        let low_rank: u64 = shapes.iter().map(|(out, into)| layers * 2 * (out + into)).sum();
        let forward = 2 * 6 * matrices + 2 * 5 * 8 * 11 + 2 * 2 * 19 * layers * 12;
        let lora = Train::Lora(LoraConfig { r: 2, alpha: 4.0 });
        let expected = Flops {
            forward,
            adapter: 2 * 6 * low_rank,
            backward: 2 * 5 * (matrices + 2 * low_rank) + 2 * 3 * 8 * 11 + 4 * 2 * 15 * layers * 12,
        };
        assert_eq!(Flops::for_batch(&architecture, lora, &batch).unwrap(), expected);
        let expected = Flops {
            forward,
            adapter: 0,
            backward: 2 * 5 * 2 * matrices + 2 * 3 * 2 * 8 * 11 + 4 * 2 * 15 * layers * 12,
        };
        assert_eq!(Flops::for_batch(&architecture, Train::Full, &batch).unwrap(), expected);
    }
}
