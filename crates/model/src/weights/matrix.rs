//! Weights of linear layers: dense, quantised or sharded.

use candle_core::{Device, Result, Tensor, quantized::GgmlDType};

use super::{QuantisedMatrix, ShardedMatrix};
use crate::parameters::{Gradients, WeightTensor};

/// Weight of a linear layer, `[out, in]`.
#[derive(Debug, Clone)]
pub(crate) enum LinearWeight {
    /// Dense tensor, frozen or trained.
    Plain(WeightTensor),
    /// Frozen and quantised.
    Quantised(QuantisedMatrix),
    /// Frozen or trained, with the elements divided among the ranks of a process group.
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
            Self::Sharded(sharded) => sharded.whole()?.dense(),
        }
    }

    /// Returns the dense matrix for saving. A sharded matrix is moved to the CPU, since the
    /// matrices together may not fit on any device.
    pub(crate) fn dense_for_saving(&self) -> Result<Tensor> {
        match self {
            Self::Sharded(_) => self.dense()?.to_device(&Device::Cpu),
            _ => self.dense(),
        }
    }

    /// Returns the bytes on this rank of a frozen matrix; 0 if it is trained.
    pub(crate) fn frozen_bytes(&self) -> usize {
        match self {
            Self::Plain(weight) => weight.frozen_bytes(),
            Self::Quantised(quantised) => quantised.bytes(),
            Self::Sharded(sharded) => sharded.frozen_bytes(),
        }
    }

    /// Returns true if the matrix is trained, and divided among ranks.
    pub(crate) fn is_trained_in_shards(&self) -> bool {
        matches!(self, Self::Sharded(sharded) if sharded.is_trained())
    }

    /// Returns the bytes that a sharded matrix takes when it is gathered; 0 if it is not sharded.
    pub(crate) fn gathered_bytes(&self) -> usize {
        match self {
            Self::Sharded(sharded) => sharded.gathered_bytes(),
            Self::Plain(_) | Self::Quantised(_) => 0,
        }
    }

    /// Returns the type of the blocks of a quantised matrix.
    pub(crate) fn kind(&self) -> Option<GgmlDType> {
        match self {
            Self::Plain(_) => None,
            Self::Quantised(quantised) => quantised.kind(),
            Self::Sharded(sharded) => sharded.kind(),
        }
    }

    /// Adds the gradient from `compute` if the weight is trained and whole.
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
