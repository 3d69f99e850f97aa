//! A GPU: its driver, its memory, and our kernels on it.

use std::ptr;

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

use super::{Facts, KernelCheck, fail};
use crate::{ModelError, ops::Group};

mod card;

pub(crate) use card::Card;

/// The CUDA version that candle's part of this binary was built for, as the driver writes it.
const CUDA: i32 = 13_000;

/// The GPU generation that candle's kernels were built for, as `CUDA_COMPUTE_CAP` has it; they run on no other.
const BUILT_FOR: Option<&str> = option_env!("CUDA_COMPUTE_CAP");

/// The CUDA version that the driver knows; 0 if there is no driver.
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

pub(super) fn open(ordinal: usize) -> Result<Device, ModelError> {
    if let Err(name) = Group::switched_on() {
        return fail(format!(
            "PROSPECT_KERNELS: `{name}` is no kernel; there are norm, rotary, activation, attention, log_prob, adamw, dequantise, and all"
        ));
    }
    match driver_version() {
        0 => return fail("there is no CUDA driver; install one (nvidia-smi must list the GPU)"),
        found if found < CUDA => {
            return fail(format!(
                "the driver is for CUDA {}, this binary for CUDA {}; update the driver (580 or newer)",
                version(found),
                version(CUDA)
            ));
        }
        _ => {}
    }
    let count = CudaContext::device_count().unwrap_or(0);
    if ordinal >= usize::try_from(count).unwrap_or(0) {
        return fail(format!(
            "there is no GPU cuda:{ordinal}, {count} are seen; look at nvidia-smi and CUDA_VISIBLE_DEVICES"
        ));
    }
    let device = Device::new_cuda(ordinal)?;
    let card = device.as_cuda_device()?;
    let (major, minor) = capability(card)?;
    let found = format!("{major}{minor}");
    if let Some(built) = BUILT_FOR.filter(|built| *built != found) {
        return fail(format!(
            "the GPU is of generation {found}, this binary for {built}; build with CUDA_COMPUTE_CAP={found}"
        ));
    }
    // Else every wait for a result gives all free memory back to the driver, to be asked for again.
    if let Some(pool) = pool(card)? {
        set(pool, Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, u64::MAX)?;
    }
    Ok(device)
}

fn capability(card: &CudaDevice) -> candle_core::Result<(i32, i32)> {
    card.cuda_stream().context().compute_capability().w()
}

pub(super) fn facts(card: &CudaDevice) -> Result<Facts, ModelError> {
    let stream = card.cuda_stream();
    let context = stream.context();
    let (free, memory) = context.mem_get_info().w()?;
    // What the pool keeps is free for tensors, too.
    let kept = match pool(card)? {
        Some(pool) => {
            let [reserved, used] = [
                Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT,
                Attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT,
            ];
            get(pool, reserved)?.saturating_sub(get(pool, used)?)
        }
        None => 0,
    };
    let (major, minor) = capability(card)?;
    Ok(Facts {
        name: context.name().w()?,
        memory: Some(memory as u64),
        free: Some(free as u64 + kept),
        driver: Some(version(driver_version())),
        compute_capability: Some(format!("{major}.{minor}")),
    })
}

/// The pool that tensors are allocated from; None if the driver has none.
fn pool(card: &CudaDevice) -> candle_core::Result<Option<CUmemoryPool>> {
    let stream = card.cuda_stream();
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
    // SAFETY: the attributes that are set here are of 64 bits.
    #[expect(unsafe_code, reason = "a call of the driver")]
    let set = unsafe { mem_pool::set_attribute(pool, attribute, ptr::from_mut(&mut value).cast()) };
    set.w()
}

fn get(pool: CUmemoryPool, attribute: Attribute) -> candle_core::Result<u64> {
    let mut value = 0u64;
    // SAFETY: the attributes that are asked for here are of 64 bits.
    #[expect(unsafe_code, reason = "a call of the driver")]
    let got = unsafe { mem_pool::get_attribute(pool, attribute, ptr::from_mut(&mut value).cast()) };
    got.w()?;
    Ok(value)
}

pub(super) fn forget_peak(card: &CudaDevice) -> Result<(), ModelError> {
    if let Some(pool) = pool(card)? {
        set(pool, Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0)?;
    }
    Ok(())
}

pub(super) fn peak(card: &CudaDevice) -> Result<Option<u64>, ModelError> {
    let high = |pool| get(pool, Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH);
    Ok(pool(card)?.map(high).transpose()?)
}

pub(super) fn check_kernels(card: &CudaDevice) -> Result<Option<Vec<KernelCheck>>, ModelError> {
    Ok(Some(check::all(&mut Card(card))))
}
