//! Kernels on a GPU: compiled by NVRTC when they are first asked for, launched on candle's stream.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{
    CudaDevice, Device, Result, Storage, Tensor, bail,
    cuda_backend::{
        CudaStorageSlice, WrapErr,
        cudarc::{
            driver::{DevicePtr, LaunchConfig, PushKernelArg},
            nvrtc::{CompileOptions, compile_ptx_with_opts},
        },
    },
};
use prospect_kernels::{
    Kernel, Launch, Source,
    check::{Argument, Machine},
};

use super::capability;
use crate::ops::{KernelArg, Launcher};

/// A GPU that runs our kernels.
pub(crate) struct Card<'a>(pub(crate) &'a CudaDevice);

/// An argument as a launch takes it.
enum Passed {
    Pointer(u64),
    F32(f32),
    U32(u32),
    U64(u64),
}

/// What lies behind a buffer of a check, and must still be there after it.
const GUARD: [u8; 256] = [0xa5; 256];

impl Card<'_> {
    fn run(&self, kernel: &Kernel, launch: &Launch, arguments: &[Passed]) -> Result<()> {
        if launch.is_empty() {
            return Ok(());
        }
        if arguments.len() != kernel.parameters.len() {
            bail!("{} arguments for {}", arguments.len(), kernel.signature());
        }
        let ptx = ptx(kernel.source, capability(self.0)?)?;
        let module = format!("prospect {}", kernel.source.name);
        let function = self.0.get_or_load_custom_func(&kernel.entry, &module, &ptx)?;
        let mut builder = function.builder();
        for argument in arguments {
            match argument {
                Passed::Pointer(value) | Passed::U64(value) => builder.arg(value),
                Passed::F32(value) => builder.arg(value),
                Passed::U32(value) => builder.arg(value),
            };
        }
        let [x, y] = launch.grid;
        let config = LaunchConfig {
            grid_dim: (x, y, 1),
            block_dim: (launch.block, 1, 1),
            shared_mem_bytes: launch.shared_bytes,
        };
        // SAFETY: the arguments are those of the kernel's signature, which the tests compare with its source; that a kernel
        // keeps within its buffers is what its checks are for.
        #[expect(unsafe_code, reason = "a launch")]
        let launched = unsafe { builder.launch(config) };
        launched.w()?;
        Ok(())
    }
}

/// A source compiled for a GPU generation.
fn ptx(source: &'static Source, (major, minor): (i32, i32)) -> Result<Arc<str>> {
    type Compiled = BTreeMap<(&'static str, i32, i32), Arc<str>>;
    static COMPILED: Mutex<Compiled> = Mutex::new(BTreeMap::new());
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(ptx) = compiled.get(&(source.name, major, minor)) {
        return Ok(Arc::clone(ptx));
    }
    let options = CompileOptions {
        name: Some(format!("{}.cu", source.name)),
        options: vec!["--std=c++17".to_owned(), format!("--gpu-architecture=compute_{major}{minor}")],
        ..CompileOptions::default()
    };
    let ptx: Arc<str> = compile_ptx_with_opts(source.text, options).w()?.to_src().into();
    compiled.insert((source.name, major, minor), Arc::clone(&ptx));
    Ok(ptx)
}

/// Where a contiguous tensor of this GPU begins.
fn pointer(tensor: &Tensor) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cuda(storage), Some((first, _))) = (&*storage, layout.contiguous_offsets()) else {
        bail!("a kernel needs contiguous tensors on its GPU");
    };
    let stream = storage.device.cuda_stream();
    let base = match &storage.slice {
        CudaStorageSlice::U8(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::U32(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::BF16(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::F32(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::F64(slice) => slice.device_ptr(&stream).0,
        _ => bail!("no kernel takes {:?}", tensor.dtype()),
    };
    Ok(base + (first * tensor.dtype().size_in_bytes()) as u64)
}

impl Launcher for Card<'_> {
    fn launch(&self, kernel: &Kernel, launch: &Launch, given: Vec<KernelArg<'_>>) -> Result<Vec<Tensor>> {
        let device = Device::Cuda(self.0.clone());
        let (mut passed, mut made, mut held) = (Vec::with_capacity(given.len()), Vec::new(), Vec::new());
        for given in given {
            passed.push(match given {
                KernelArg::Null => Passed::Pointer(0),
                KernelArg::Tensor(tensor) => {
                    // Until after the launch: freed memory is reused in the order of the stream.
                    held.push(tensor.contiguous()?);
                    Passed::Pointer(held.last().map_or(Ok(0), pointer)?)
                }
                KernelArg::Changed(tensor) => Passed::Pointer(pointer(tensor)?),
                KernelArg::Blocks(matrix) => Passed::Pointer(matrix.device_ptr()? as u64),
                KernelArg::New(shape, dtype) => {
                    // SAFETY: the kernel writes every number of what it makes.
                    #[expect(unsafe_code, reason = "memory that is not cleared first")]
                    let tensor = unsafe { Tensor::empty(shape, dtype, &device) }?;
                    let pointer = pointer(&tensor)?;
                    made.push(tensor);
                    Passed::Pointer(pointer)
                }
                KernelArg::F32(value) => Passed::F32(value),
                KernelArg::U32(value) => Passed::U32(value),
                KernelArg::U64(value) => Passed::U64(value),
            });
        }
        self.run(kernel, launch, &passed)?;
        Ok(made)
    }
}

impl Machine for Card<'_> {
    fn run(
        &mut self,
        kernel: &Kernel,
        launch: &Launch,
        arguments: &mut [Argument],
    ) -> std::result::Result<(), String> {
        self.check(kernel, launch, arguments).map_err(|error| error.to_string())
    }
}

impl Card<'_> {
    /// A launch whose buffers come from the host and go back to it.
    fn check(&self, kernel: &Kernel, launch: &Launch, arguments: &mut [Argument]) -> Result<()> {
        let device = Device::Cuda(self.0.clone());
        let (mut passed, mut buffers) = (Vec::with_capacity(arguments.len()), Vec::new());
        for argument in &*arguments {
            passed.push(match argument {
                Argument::Null => Passed::Pointer(0),
                Argument::Buffer(bytes) => {
                    let bytes = [bytes, &GUARD[..]].concat();
                    let length = bytes.len();
                    let tensor = Tensor::from_vec(bytes, length, &device)?;
                    let pointer = pointer(&tensor)?;
                    buffers.push(tensor);
                    Passed::Pointer(pointer)
                }
                Argument::F32(value) => Passed::F32(*value),
                Argument::U32(value) => Passed::U32(*value),
                Argument::U64(value) => Passed::U64(*value),
            });
        }
        self.run(kernel, launch, &passed)?;
        self.0.cuda_stream().synchronize().w()?;
        let mut buffers = buffers.into_iter();
        for (argument, parameter) in arguments.iter_mut().zip(&kernel.parameters) {
            let Argument::Buffer(bytes) = argument else { continue };
            let Some(buffer) = buffers.next() else { bail!("a buffer of {} was lost", kernel.entry) };
            let found = buffer.to_vec1::<u8>()?;
            let (own, guard) = found.split_at(bytes.len());
            if guard != GUARD {
                bail!("{} writes beyond `{}`", kernel.entry, parameter.name);
            }
            bytes.copy_from_slice(own);
        }
        Ok(())
    }
}
