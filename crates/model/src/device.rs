//! Devices: opening the CPU or a GPU, memory statistics, and our CUDA kernels.

use std::{path::PathBuf, time::Instant};

pub use candle_core::Device;
use candle_core::{DType, Tensor};
use prospect_core::memory;
pub use prospect_kernels::check::Check as KernelCheck;
use serde::Serialize;

use crate::{ModelError, is_out_of_memory, ops};

#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(not(feature = "cuda"))]
#[path = "device/no_cuda.rs"]
mod cuda;
mod kernel_group;
#[cfg(any(feature = "cuda", test))]
mod launch;
mod verified;

#[cfg(feature = "cuda")]
pub(crate) use cuda::{Gpu, add_product, product};
pub use kernel_group::KernelGroup;
#[cfg(any(feature = "cuda", test))]
pub(crate) use launch::{KernelArg, KernelLauncher};

/// Kind of a device, by the memory behaviour of its operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// Fused operations, with almost no temporaries.
    Cpu,
    /// Composed operations, with their temporaries.
    Gpu,
}

impl DeviceKind {
    /// Returns the kind on which models are loaded: a GPU if this build supports it and one is
    /// present.
    pub fn detect() -> Self {
        if candle_core::utils::cuda_is_available() { Self::Gpu } else { Self::Cpu }
    }
}

impl From<&Device> for DeviceKind {
    fn from(device: &Device) -> Self {
        if device.is_cpu() { Self::Cpu } else { Self::Gpu }
    }
}

fn fail<T>(message: impl Into<String>) -> Result<T, ModelError> {
    Err(ModelError::Device(message.into()))
}

/// Opens a device by name: `cpu`, or `cuda:0`, `cuda:1`, … (`cuda` is `cuda:0`).
pub fn open(name: &str) -> Result<Device, ModelError> {
    match (name, name.strip_prefix("cuda").map(|rest| rest.strip_prefix(':').unwrap_or(rest))) {
        ("cpu", _) => {
            ops::check_isa().map_err(ModelError::Device)?;
            Ok(Device::Cpu)
        }
        (_, Some("")) => cuda::open(0),
        (_, Some(ordinal)) if ordinal.parse::<usize>().is_ok() => cuda::open(ordinal.parse().unwrap_or(0)),
        _ => fail(format!("unknown device `{name}`; use cpu, or cuda:0 for the first GPU")),
    }
}

/// Opens the GPU of a rank in a build with CUDA, and the CPU otherwise.
///
/// `local_rank` counts the ranks of this machine from 0.
pub fn by_local_rank(local_rank: usize) -> Result<Device, ModelError> {
    if cfg!(feature = "cuda") {
        open(&format!("cuda:{}", ordinal_of(local_rank, cuda::visible())))
    } else {
        open("cpu")
    }
}

/// Returns the ordinal of a rank's GPU among the `visible` ones. A launcher that gives each rank a
/// GPU of its own (`--gpus-per-task=1`, `CUDA_VISIBLE_DEVICES`) leaves one visible, with ordinal 0.
fn ordinal_of(local_rank: usize, visible: usize) -> usize {
    if visible == 1 { 0 } else { local_rank }
}

/// Description of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceInfo {
    /// Product name.
    pub name: String,
    /// Total memory in bytes.
    pub memory: Option<u64>,
    /// Memory available to tensors in bytes.
    pub free: Option<u64>,
    /// CUDA version of the driver.
    pub driver: Option<String>,
    /// Compute capability of the GPU.
    pub compute_capability: Option<String>,
}

/// Returns the description of a device.
pub fn info(device: &Device) -> Result<DeviceInfo, ModelError> {
    if let Device::Cuda(gpu) = device {
        return cuda::info(gpu);
    }
    let memory = memory::of_this_machine();
    let name = format!("CPU, {} threads", rayon::current_num_threads());
    Ok(DeviceInfo { name, memory, free: memory, driver: None, compute_capability: None })
}

/// Returns the seconds of one product of a `[rows, inputs]` matrix with a weight
/// `[outputs, inputs]` of this type, the fastest of several.
pub fn product_seconds(
    device: &Device,
    dtype: DType,
    [rows, inputs, outputs]: [usize; 3],
) -> Result<f64, ModelError> {
    let normal = |shape| Tensor::randn(0f32, 1.0, shape, device)?.to_dtype(dtype);
    let (x, weight) = (normal((rows, inputs))?, normal((outputs, inputs))?);
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        ops::linear(&x, &weight, None, None, dtype)?;
        device.synchronize()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// Resets the peak that [`peak_memory`] returns.
pub fn reset_peak_memory(device: &Device) -> Result<(), ModelError> {
    if let Device::Cuda(gpu) = device {
        return cuda::reset_peak_memory(gpu);
    }
    memory::forget_peak();
    Ok(())
}

/// Returns the peak number of bytes in use since [`reset_peak_memory`]: by tensors on a GPU, by the
/// process on the CPU. None if the device does not count.
pub fn peak_memory(device: &Device) -> Result<Option<u64>, ModelError> {
    match device {
        Device::Cuda(gpu) => cuda::peak_memory(gpu),
        _ => Ok(memory::peak()),
    }
}

/// Runs `work`. If the device has too little free memory, returns what no tensor uses to the driver,
/// and runs it once more. `work` must have changed nothing when it fails.
pub fn retry_with_room<T>(
    device: &Device,
    mut work: impl FnMut() -> candle_core::Result<T>,
) -> candle_core::Result<T> {
    match work() {
        Err(error) if is_out_of_memory(&error) => {
            release_unused_memory(device).map_err(candle_core::Error::wrap)?;
            tracing::warn!("out of memory; unused memory was freed, trying again");
            work()
        }
        done => done,
    }
}

/// Returns memory that no tensor uses to the driver. Does nothing on the CPU.
pub fn release_unused_memory(device: &Device) -> Result<(), ModelError> {
    match device {
        Device::Cuda(gpu) => cuda::release_unused_memory(gpu),
        _ => Ok(()),
    }
}

/// Runs every CUDA kernel and compares it with its reference implementation. None on a device that
/// cannot run them.
pub fn check_kernels(device: &Device) -> Result<Option<Vec<KernelCheck>>, ModelError> {
    match device {
        Device::Cuda(gpu) => cuda::check_kernels(gpu),
        _ => Ok(None),
    }
}

/// Remembers kernels that a check has verified on this GPU: programs use them on it by default, as
/// long as driver and program are the same. Returns the file that says so.
pub fn remember_kernels(device: &Device, groups: &[KernelGroup]) -> Result<PathBuf, ModelError> {
    verified::remember(&info(device)?, groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        assert!(open("cpu").unwrap().is_cpu());
        for wrong in ["gpu", "cuda:first", "", "cuda:-1"] {
            let error = open(wrong).unwrap_err().to_string();
            assert!(error.contains("cuda:0 for the first GPU"), "{error}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn without_cuda_there_is_a_way_out() {
        for name in ["cuda", "cuda:1"] {
            let error = open(name).unwrap_err().to_string();
            assert!(error.contains("--features cuda"), "{error}");
        }
        assert!(by_local_rank(0).unwrap().is_cpu());
    }

    #[test]
    fn a_rank_that_sees_one_gpu_uses_it() {
        assert_eq!([0, 1, 7].map(|rank| ordinal_of(rank, 1)), [0, 0, 0]);
        assert_eq!([0, 1, 7].map(|rank| ordinal_of(rank, 8)), [0, 1, 7]);
        // Without a GPU, the error names the rank's own.
        assert_eq!(ordinal_of(2, 0), 2);
    }

    #[test]
    fn the_cpu_reports_its_memory() {
        let info = info(&Device::Cpu).unwrap();
        assert!(info.name.starts_with("CPU") && info.driver.is_none());
        assert_eq!(check_kernels(&Device::Cpu).unwrap(), None);
        reset_peak_memory(&Device::Cpu).unwrap();
        assert_eq!(peak_memory(&Device::Cpu).unwrap().is_some(), info.memory.is_some());
    }
}
