//! GPUs in a build without CUDA: every call is an error.

use candle_core::{CudaDevice, Device};

use super::{DeviceInfo, KernelCheck, fail};
use crate::ModelError;

fn unavailable<T>() -> Result<T, ModelError> {
    fail("this build has no CUDA; build with --features cuda (scripts/check-cuda.sh)")
}

pub(super) fn visible() -> usize {
    0
}

pub(super) fn open(_: usize) -> Result<Device, ModelError> {
    unavailable()
}

pub(super) fn info(_: &CudaDevice) -> Result<DeviceInfo, ModelError> {
    unavailable()
}

pub(super) fn reset_peak_memory(_: &CudaDevice) -> Result<(), ModelError> {
    unavailable()
}

pub(super) fn peak_memory(_: &CudaDevice) -> Result<Option<u64>, ModelError> {
    unavailable()
}

pub(super) fn release_unused_memory(_: &CudaDevice) -> Result<(), ModelError> {
    unavailable()
}

pub(super) fn check_kernels(_: &CudaDevice) -> Result<Option<Vec<KernelCheck>>, ModelError> {
    unavailable()
}
