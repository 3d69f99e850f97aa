//! Kernels on a GPU: compiled by NVRTC at first use, launched on candle's stream.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{
    CudaDevice, CudaStorage, Device, Result, Storage, Tensor,
    backend::BackendStorage,
    bail,
    cuda_backend::{
        CudaStorageSlice, WrapErr,
        cudarc::{
            driver::{DevicePtr, LaunchConfig, PushKernelArg, result},
            nvrtc::{CompileOptions, compile_ptx_with_opts},
        },
    },
    quantized::{GgmlDType, QStorage, QTensor, cuda::QCudaStorage},
};
use prospect_kernels::{
    Kernel, Launch, Source,
    check::{Argument, Machine},
};

use super::capability;
use crate::device::{KernelArg, KernelLauncher};

/// GPU that runs our kernels.
pub(crate) struct Gpu<'a>(pub(crate) &'a CudaDevice);

/// Argument as passed to the driver.
#[derive(Clone, Copy)]
enum RawArg {
    Pointer(u64),
    /// Pointer to a number of a [`Table`].
    InTable(usize),
    F32(f32),
    U32(u32),
    U64(u64),
}

/// Arrays of pointers and numbers that a launch passes in device memory, uploaded at once.
#[derive(Default)]
struct Table(Vec<i64>);

impl Table {
    /// Adds an array.
    fn add(&mut self, numbers: impl IntoIterator<Item = u64>) -> RawArg {
        let first = self.0.len();
        self.0.extend(numbers.into_iter().map(u64::cast_signed));
        RawArg::InTable(first)
    }

    /// Uploads the arrays, and points the arguments to them. The tensor must live until the launch.
    fn upload(self, arguments: &mut [RawArg], device: &Device) -> Result<Option<Tensor>> {
        let count = self.0.len();
        if count == 0 {
            return Ok(None);
        }
        let table = Tensor::from_vec(self.0, count, device)?;
        let base = pointer(&table)?;
        for argument in arguments {
            if let RawArg::InTable(first) = argument {
                *argument = RawArg::Pointer(base + (*first * size_of::<i64>()) as u64);
            }
        }
        Ok(Some(table))
    }
}

/// Bytes after each buffer of a check, which the kernel must not change.
const GUARD: [u8; 256] = [0xa5; 256];

impl Gpu<'_> {
    fn run(&self, kernel: &Kernel, launch: &Launch, arguments: &[RawArg]) -> Result<()> {
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
                RawArg::InTable(_) => bail!("an array of {} is not on the GPU", kernel.entry),
                RawArg::Pointer(value) | RawArg::U64(value) => builder.arg(value),
                RawArg::F32(value) => builder.arg(value),
                RawArg::U32(value) => builder.arg(value),
            };
        }
        let [x, y] = launch.grid;
        let config = LaunchConfig {
            grid_dim: (x, y, 1),
            block_dim: (launch.block, 1, 1),
            shared_mem_bytes: launch.shared_bytes,
        };
        // SAFETY: the arguments match the kernel's signature, which the tests compare with its
        // source. The kernel checks verify that a kernel stays within its buffers.
        #[expect(unsafe_code, reason = "a launch")]
        let launched = unsafe { builder.launch(config) };
        launched.w()?;
        Ok(())
    }
}

/// Compiles a source for a compute capability, once per process.
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

/// Returns the address of the first byte of a storage.
pub(super) fn address(storage: &CudaStorage) -> Result<u64> {
    let stream = storage.device.cuda_stream();
    Ok(match &storage.slice {
        CudaStorageSlice::U8(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::U32(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::BF16(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::F32(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::F64(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::I64(slice) => slice.device_ptr(&stream).0,
        _ => bail!("no kernel takes {:?}", storage.dtype()),
    })
}

/// Returns the address of the first element of a tensor on a GPU.
pub(super) fn pointer(tensor: &Tensor) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else { bail!("a kernel needs tensors on its GPU") };
    Ok(address(storage)? + (layout.start_offset() * tensor.dtype().size_in_bytes()) as u64)
}

/// Returns the address of a contiguous tensor on a GPU.
fn contiguous_pointer(tensor: &Tensor) -> Result<u64> {
    if !tensor.is_contiguous() {
        bail!("a kernel needs contiguous tensors");
    }
    pointer(tensor)
}

fn pointers<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<Vec<u64>> {
    tensors.into_iter().map(contiguous_pointer).collect()
}

/// Makes a quantised matrix of blocks that are on the GPU.
pub(crate) fn blocks_from_device(
    gpu: &CudaDevice,
    blocks: &Tensor,
    dims: (usize, usize),
    kind: GgmlDType,
) -> Result<QTensor> {
    let storage = QCudaStorage::zeros(gpu, dims.0 * dims.1, kind)?;
    let bytes = blocks.elem_count();
    if storage.storage_size_in_bytes() != bytes {
        bail!("{bytes} bytes are not the blocks of {dims:?} elements");
    }
    let matrix = QTensor::new(QStorage::Cuda(storage), dims)?;
    let (to, from, stream) = (matrix.device_ptr()? as u64, pointer(blocks)?, gpu.cuda_stream());
    // SAFETY: both have this many bytes, and are used and freed on this stream.
    #[expect(unsafe_code, reason = "a copy on the device")]
    let copied = unsafe { result::memcpy_dtod_async(to, from, bytes, stream.cu_stream()) };
    copied.w()?;
    Ok(matrix)
}

impl KernelLauncher for Gpu<'_> {
    fn launch(&self, kernel: &Kernel, launch: &Launch, args: Vec<KernelArg<'_>>) -> Result<Vec<Tensor>> {
        let device = Device::Cuda(self.0.clone());
        let (mut passed, mut made, mut held) = (Vec::with_capacity(args.len()), Vec::new(), Vec::new());
        let mut table = Table::default();
        for arg in args {
            passed.push(match arg {
                KernelArg::Null => RawArg::Pointer(0),
                KernelArg::Tensor(tensor) => {
                    // Held until after the launch: freed memory is reused in stream order.
                    held.push(tensor.contiguous()?);
                    RawArg::Pointer(held.last().map_or(Ok(0), contiguous_pointer)?)
                }
                KernelArg::Each(tensors) => {
                    let first = held.len();
                    for tensor in tensors {
                        held.push(tensor.contiguous()?);
                    }
                    table.add(pointers(&held[first..])?)
                }
                KernelArg::EachChanged(tensors) => table.add(pointers(tensors)?),
                KernelArg::Numbers(numbers) => table.add(numbers),
                KernelArg::Blocks(matrix) => RawArg::Pointer(matrix.device_ptr()? as u64),
                KernelArg::New(shape, dtype) => {
                    // SAFETY: the kernel writes every element of a new tensor.
                    #[expect(unsafe_code, reason = "uninitialised memory")]
                    let tensor = unsafe { Tensor::empty(shape, dtype, &device) }?;
                    let pointer = pointer(&tensor)?;
                    made.push(tensor);
                    RawArg::Pointer(pointer)
                }
                KernelArg::F32(value) => RawArg::F32(value),
                KernelArg::U32(value) => RawArg::U32(value),
                KernelArg::U64(value) => RawArg::U64(value),
            });
        }
        let _table = table.upload(&mut passed, &device)?;
        self.run(kernel, launch, &passed)?;
        Ok(made)
    }
}

impl Machine for Gpu<'_> {
    fn run(
        &mut self,
        kernel: &Kernel,
        launch: &Launch,
        arguments: &mut [Argument],
    ) -> std::result::Result<(), String> {
        self.check(kernel, launch, arguments).map_err(|error| error.to_string())
    }
}

impl Gpu<'_> {
    /// Launches with buffers copied from the host, and copies them back.
    fn check(&self, kernel: &Kernel, launch: &Launch, arguments: &mut [Argument]) -> Result<()> {
        let device = Device::Cuda(self.0.clone());
        let (mut passed, mut buffers) = (Vec::with_capacity(arguments.len()), Vec::new());
        let mut table = Table::default();
        let mut upload = |bytes: &Vec<u8>| {
            let bytes = [bytes, &GUARD[..]].concat();
            let length = bytes.len();
            buffers.push(Tensor::from_vec(bytes, length, &device)?);
            buffers.last().map_or(Ok(0), pointer)
        };
        for argument in &*arguments {
            passed.push(match argument {
                Argument::Null => RawArg::Pointer(0),
                Argument::Buffer(bytes) => RawArg::Pointer(upload(bytes)?),
                Argument::Buffers(each) => {
                    table.add(each.iter().map(&mut upload).collect::<Result<Vec<_>>>()?)
                }
                Argument::F32(value) => RawArg::F32(*value),
                Argument::U32(value) => RawArg::U32(*value),
                Argument::U64(value) => RawArg::U64(*value),
            });
        }
        let _table = table.upload(&mut passed, &device)?;
        self.run(kernel, launch, &passed)?;
        self.0.cuda_stream().synchronize().w()?;
        let mut buffers = buffers.into_iter();
        for (argument, parameter) in arguments.iter_mut().zip(&kernel.parameters) {
            let own = match argument {
                Argument::Buffer(bytes) => std::slice::from_mut(bytes),
                Argument::Buffers(each) => each,
                _ => &mut [],
            };
            for bytes in own {
                let Some(buffer) = buffers.next() else { bail!("a buffer of {} was lost", kernel.entry) };
                let found = buffer.to_vec1::<u8>()?;
                let (own, guard) = found.split_at(bytes.len());
                if guard != GUARD {
                    bail!("{} writes beyond `{}`", kernel.entry, parameter.name);
                }
                bytes.copy_from_slice(own);
            }
        }
        Ok(())
    }
}
