//! What a build without CUDA says of GPUs.

use candle_core::{CudaDevice, Device};

use super::{Facts, KernelCheck, fail};
use crate::ModelError;

fn none<T>() -> Result<T, ModelError> {
    fail("this build has no CUDA; build with --features cuda (scripts/check-cuda.sh)")
}

pub(super) fn open(_: usize) -> Result<Device, ModelError> {
    none()
}

pub(super) fn facts(_: &CudaDevice) -> Result<Facts, ModelError> {
    none()
}

pub(super) fn forget_peak(_: &CudaDevice) -> Result<(), ModelError> {
    none()
}

pub(super) fn peak(_: &CudaDevice) -> Result<Option<u64>, ModelError> {
    none()
}

pub(super) fn check_kernels(_: &CudaDevice) -> Result<Option<Vec<KernelCheck>>, ModelError> {
    none()
}
