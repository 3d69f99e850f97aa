//! Experimental: CUDA GPUs (driver, memory pool, kernel checks). Never run on a GPU so far.

use std::{
    collections::BTreeMap,
    ptr,
    sync::{Mutex, PoisonError},
};

use candle_core::{
    CudaDevice, Device,
    cuda_backend::{
        WrapErr,
        cudarc::driver::{
            CudaContext,
            result::{self, mem_pool},
            sys::{self, CUmemPool_attribute_enum as Attribute, CUmemoryPool},
        },
    },
};
use prospect_kernels::check;

use super::{DeviceInfo, KernelCheck, KernelGroup, fail, verified::verified};
use crate::ModelError;

mod gpu;
mod product;

pub(crate) use gpu::{Gpu, blocks_from_device};
pub(crate) use product::{add_product, product};

/// CUDA version that this binary was built for, in the driver's notation.
const BUILT_FOR_CUDA: i32 = 13_000;

/// Compute capability that candle's kernels were built for, as in `CUDA_COMPUTE_CAP`; they run on
/// no other.
const BUILT_FOR_CAPABILITY: Option<&str> = option_env!("CUDA_COMPUTE_CAP");

/// Returns the CUDA version of the driver; 0 without a driver.
fn driver_version() -> i32 {
    let mut version = 0;
    // SAFETY: the driver writes one int.
    #[expect(unsafe_code, reason = "a call of the driver")]
    let known = unsafe { sys::cuDriverGetVersion(&raw mut version) }.result().is_ok();
    if known { version } else { 0 }
}

fn version(number: i32) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

/// Returns the number of visible GPUs; 0 without a driver.
pub(super) fn visible() -> usize {
    CudaContext::device_count().ok().and_then(|count| usize::try_from(count).ok()).unwrap_or(0)
}

/// Opens a GPU, once per process: all threads share one stream, one cuBLAS handle and one memory
/// pool, so that their work on shared weights has an order.
pub(super) fn open(ordinal: usize) -> Result<Device, ModelError> {
    static OPEN: Mutex<BTreeMap<usize, Device>> = Mutex::new(BTreeMap::new());
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = open.get(&ordinal) {
        return Ok(device.clone());
    }
    let device = open_new(ordinal)?;
    open.insert(ordinal, device.clone());
    Ok(device)
}

fn open_new(ordinal: usize) -> Result<Device, ModelError> {
    let kernels = KernelGroup::from_variable().map_err(ModelError::Device)?;
    match driver_version() {
        0 => return fail("no CUDA driver found; install one (nvidia-smi must list the GPU)"),
        found if found < BUILT_FOR_CUDA => {
            return fail(format!(
                "the driver supports CUDA {}, this binary needs CUDA {}; update the driver (580 or newer)",
                version(found),
                version(BUILT_FOR_CUDA)
            ));
        }
        _ => {}
    }
    let count = visible();
    if ordinal >= count {
        return fail(format!(
            "GPU cuda:{ordinal} not found, {count} visible; check nvidia-smi and CUDA_VISIBLE_DEVICES"
        ));
    }
    // Not the default stream, which is a different one in every thread.
    let device = Device::new_cuda_with_stream(ordinal)?;
    let gpu = device.as_cuda_device()?;
    // Candle records two events for every tensor, to order streams. There is only one stream.
    // SAFETY: every use of a tensor of this device is on the stream of the device.
    #[expect(unsafe_code, reason = "a promise about streams")]
    unsafe {
        gpu.disable_event_tracking();
    }
    let (major, minor) = capability(gpu)?;
    let found = format!("{major}{minor}");
    if let Some(built) = BUILT_FOR_CAPABILITY.filter(|built| *built != found) {
        return fail(format!(
            "the GPU has compute capability {found}, this binary needs {built}; build with CUDA_COMPUTE_CAP={found}"
        ));
    }
    // By default, every synchronisation returns all free memory to the driver.
    if let Some(pool) = pool(gpu)? {
        set(pool, Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, u64::MAX)?;
    }
    let info = info(gpu)?;
    let kernels = kernels.unwrap_or_else(|| verified(&info));
    KernelGroup::use_only(&kernels);
    tracing::info!("{}: own kernels: {}", info.name, KernelGroup::names(&kernels));
    Ok(device)
}

fn capability(gpu: &CudaDevice) -> candle_core::Result<(i32, i32)> {
    gpu.cuda_stream().context().compute_capability().w()
}

pub(super) fn info(gpu: &CudaDevice) -> Result<DeviceInfo, ModelError> {
    let stream = gpu.cuda_stream();
    let context = stream.context();
    let (free, memory) = context.mem_get_info().w()?;
    // Memory that the pool has reserved but does not use is available to tensors, too.
    let pooled = match pool(gpu)? {
        Some(pool) => {
            let [reserved, used] = [
                Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT,
                Attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT,
            ];
            get(pool, reserved)?.saturating_sub(get(pool, used)?)
        }
        None => 0,
    };
    let (major, minor) = capability(gpu)?;
    Ok(DeviceInfo {
        name: context.name().w()?,
        memory: Some(memory as u64),
        free: Some(free as u64 + pooled),
        driver: Some(version(driver_version())),
        compute_capability: Some(format!("{major}.{minor}")),
    })
}

/// Returns the pool that tensors are allocated from; None if the driver has none.
fn pool(gpu: &CudaDevice) -> candle_core::Result<Option<CUmemoryPool>> {
    let stream = gpu.cuda_stream();
    let context = stream.context();
    if !context.has_async_alloc() {
        return Ok(None);
    }
    // SAFETY: the context's own device.
    #[expect(unsafe_code, reason = "a call of the driver")]
    let pool = unsafe { result::device::get_mem_pool(context.cu_device()) };
    pool.w().map(Some)
}

fn set(pool: CUmemoryPool, attribute: Attribute, mut value: u64) -> candle_core::Result<()> {
    // SAFETY: the attributes set here have 64 bits.
    #[expect(unsafe_code, reason = "a call of the driver")]
    let set = unsafe { mem_pool::set_attribute(pool, attribute, ptr::from_mut(&mut value).cast()) };
    set.w()
}

fn get(pool: CUmemoryPool, attribute: Attribute) -> candle_core::Result<u64> {
    let mut value = 0u64;
    // SAFETY: the attributes read here have 64 bits.
    #[expect(unsafe_code, reason = "a call of the driver")]
    let got = unsafe { mem_pool::get_attribute(pool, attribute, ptr::from_mut(&mut value).cast()) };
    got.w()?;
    Ok(value)
}

pub(super) fn reset_peak_memory(gpu: &CudaDevice) -> Result<(), ModelError> {
    if let Some(pool) = pool(gpu)? {
        set(pool, Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0)?;
    }
    Ok(())
}

pub(super) fn peak_memory(gpu: &CudaDevice) -> Result<Option<u64>, ModelError> {
    let high = |pool| get(pool, Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH);
    Ok(pool(gpu)?.map(high).transpose()?)
}

pub(super) fn release_unused_memory(gpu: &CudaDevice) -> Result<(), ModelError> {
    gpu.cuda_stream().synchronize().w()?;
    if let Some(pool) = pool(gpu)? {
        // SAFETY: the pool of this device.
        #[expect(unsafe_code, reason = "a call of the driver")]
        let trimmed = unsafe { mem_pool::trim_to(pool, 0) };
        trimmed.w()?;
    }
    Ok(())
}

pub(super) fn check_kernels(gpu: &CudaDevice) -> Result<Option<Vec<KernelCheck>>, ModelError> {
    Ok(Some(check::all(&mut Gpu(gpu))))
}
