//! Interface between the operations and a device that runs our kernels.

use candle_core::{DType, Result, Shape, Tensor, quantized::QTensor};
use prospect_kernels::{Kernel, Launch};

/// Argument of a kernel.
pub(crate) enum KernelArg<'a> {
    /// Null pointer.
    Null,
    /// Tensor to read; made contiguous first if it is not.
    Tensor(&'a Tensor),
    /// Array of pointers to tensors to read.
    Each(Vec<&'a Tensor>),
    /// Array of pointers to contiguous tensors that the kernel changes in place.
    EachChanged(Vec<&'a Tensor>),
    /// Array of numbers.
    Numbers(Vec<u64>),
    /// Blocks of a quantised matrix.
    Blocks(&'a QTensor),
    /// New tensor that the kernel writes.
    New(Shape, DType),
    F32(f32),
    U32(u32),
    U64(u64),
}

impl KernelArg<'_> {
    pub(crate) fn new(shape: impl Into<Shape>, dtype: DType) -> Self {
        Self::New(shape.into(), dtype)
    }

    pub(crate) fn size(size: usize) -> Self {
        Self::U32(size as u32)
    }
}

/// Runs kernels on tensors.
pub(crate) trait KernelLauncher {
    /// Runs a kernel with arguments in the order of its parameters, and returns the new tensors.
    fn launch(&self, kernel: &Kernel, launch: &Launch, args: Vec<KernelArg<'_>>) -> Result<Vec<Tensor>>;
}
