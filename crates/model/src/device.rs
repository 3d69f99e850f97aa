//! The CPU or a GPU: opening it, and what it tells of itself.

pub use candle_core::Device;
use prospect_core::memory;
pub use prospect_kernels::check::Check as KernelCheck;
use serde::Serialize;

use crate::ModelError;

#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(not(feature = "cuda"))]
#[path = "device/no_cuda.rs"]
mod cuda;

fn fail<T>(message: impl Into<String>) -> Result<T, ModelError> {
    Err(ModelError::Device(message.into()))
}

/// The device of this name: `cpu`, or `cuda:0`, `cuda:1`, … (`cuda` is the first).
pub fn open(name: &str) -> Result<Device, ModelError> {
    match (name, name.strip_prefix("cuda").map(|rest| rest.strip_prefix(':').unwrap_or(rest))) {
        ("cpu", _) => Ok(Device::Cpu),
        (_, Some("")) => cuda::open(0),
        (_, Some(number)) if number.parse::<usize>().is_ok() => cuda::open(number.parse().unwrap_or(0)),
        _ => fail(format!("`{name}` is none; say cpu, or cuda:0 for the first GPU")),
    }
}

/// The GPU of this number, from 0, in a build with CUDA, else the CPU.
pub fn numbered(number: usize) -> Result<Device, ModelError> {
    if cfg!(feature = "cuda") { open(&format!("cuda:{number}")) } else { open("cpu") }
}

/// What a device tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Its name.
    pub name: String,
    /// Bytes of its memory.
    pub memory: Option<u64>,
    /// Bytes of it that are free for tensors.
    pub free: Option<u64>,
    /// The CUDA version of the driver.
    pub driver: Option<String>,
    /// The generation of the GPU.
    pub compute_capability: Option<String>,
}

/// What a device tells of itself.
pub fn facts(device: &Device) -> Result<Facts, ModelError> {
    if let Device::Cuda(card) = device {
        return cuda::facts(card);
    }
    let memory = memory::of_this_machine();
    let name = format!("CPU, {} threads", rayon::current_num_threads());
    Ok(Facts { name, memory, free: memory, driver: None, compute_capability: None })
}

/// Begins the peak of [`peak`] anew.
pub fn forget_peak(device: &Device) -> Result<(), ModelError> {
    if let Device::Cuda(card) = device {
        return cuda::forget_peak(card);
    }
    memory::forget_peak();
    Ok(())
}

/// The most bytes that were in use at once since [`forget_peak`]: on a GPU by tensors, on the CPU by the process. None where
/// the device does not tell.
pub fn peak(device: &Device) -> Result<Option<u64>, ModelError> {
    match device {
        Device::Cuda(card) => cuda::peak(card),
        _ => Ok(memory::peak()),
    }
}

/// Runs every CUDA kernel and compares it with its twin; None on a device that cannot run them.
pub fn check_kernels(device: &Device) -> Result<Option<Vec<KernelCheck>>, ModelError> {
    match device {
        Device::Cuda(card) => cuda::check_kernels(card),
        _ => Ok(None),
    }
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
        assert!(numbered(0).unwrap().is_cpu());
    }

    #[test]
    fn the_cpu_tells_its_memory() {
        let facts = facts(&Device::Cpu).unwrap();
        assert!(facts.name.starts_with("CPU") && facts.driver.is_none());
        assert_eq!(check_kernels(&Device::Cpu).unwrap(), None);
        forget_peak(&Device::Cpu).unwrap();
        assert_eq!(peak(&Device::Cpu).unwrap().is_some(), facts.memory.is_some());
    }
}
