//! Weights of linear layers: dense, quantised or sharded.

use candle_core::{Device, Result, Tensor};

use super::{QuantisedMatrix, ShardedMatrix};
use crate::parameters::{Gradients, WeightTensor};

/// Weight of a linear layer, `[out, in]`.
#[derive(Debug, Clone)]
pub(crate) enum LinearWeight {
    /// Dense tensor, frozen or trained.
    Plain(WeightTensor),
    /// Frozen and quantised.
    Quantised(QuantisedMatrix),
    /// Frozen, with the rows divided among the ranks of a process group.
    Sharded(ShardedMatrix),
}

impl LinearWeight {
    /// Returns `(out, in)`.
    pub(crate) fn dims(&self) -> Result<(usize, usize)> {
        match self {
            Self::Plain(weight) => weight.value().dims2(),
            Self::Quantised(quantised) => Ok(quantised.dims()),
            Self::Sharded(sharded) => Ok(sharded.dims()),
        }
    }

    /// Returns the dense matrix. Unless the weight is plain, the result takes memory of its own
    /// until it is dropped.
    pub(crate) fn dense(&self) -> Result<Tensor> {
        match self {
            Self::Plain(weight) => Ok(weight.value().clone()),
            Self::Quantised(quantised) => quantised.dense(),
            Self::Sharded(sharded) => sharded.dense(),
        }
    }

    /// Returns the dense matrix for saving. A sharded matrix is moved to the CPU, since the
    /// matrices together may not fit on any device.
    pub(crate) fn dense_for_saving(&self) -> Result<Tensor> {
        match self {
            Self::Sharded(sharded) => sharded.dense()?.to_device(&Device::Cpu),
            _ => self.dense(),
        }
    }

    /// Returns the bytes on this rank of a frozen matrix; 0 if it is trained.
    pub(crate) fn frozen_bytes(&self) -> usize {
        match self {
            Self::Plain(weight) => weight.frozen_bytes(),
            Self::Quantised(quantised) => quantised.bytes(),
            Self::Sharded(sharded) => sharded.bytes(),
        }
    }

    /// Adds the gradient from `compute` if the weight is trained.
    pub(crate) fn add_gradient(
        &self,
        gradients: &mut Gradients<'_>,
        compute: impl FnOnce() -> Result<Tensor>,
    ) -> Result<()> {
        match self {
            Self::Plain(weight) => weight.add_gradient(gradients, compute),
            Self::Quantised(_) | Self::Sharded(_) => Ok(()),
        }
    }
}
