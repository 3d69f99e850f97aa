//! Experimental group whose GPUs communicate through NCCL. Needs `--features nccl`. Tested on
//! emulated GPUs, never run on real ones so far.
//!
//! The TCP connections of [`TcpGroup`] exchange NCCL's unique id and all small data. Gradients and
//! weights go from GPU to GPU. A GPU would wait forever for a lost rank, so the process checks the
//! connections meanwhile.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use candle_core::{
    CudaDevice, DType, Error as TensorError, Storage, Tensor,
    cuda_backend::{
        CudaStorageSlice, WrapErr,
        cudarc::{
            driver::{CudaEvent, CudaStream, DevicePtr},
            nccl::result::NcclError,
        },
    },
};

mod communicator;

use crate::{
    Collective, CollectiveError, DeviceCollective, LaunchEnv, TcpGroup,
    collective::{PreparedGather, PreparedSum, Shard},
};
use communicator::{Buffers, Communicator, Reduction, UniqueId};

/// Interval between checks of the connections while a GPU operation runs.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// One process's handle on a group whose GPUs communicate through NCCL.
#[derive(Debug)]
pub struct NcclGroup(Arc<Shared>);

/// State that gathers on other threads share with the group.
#[derive(Debug)]
struct Shared {
    // Declared first: it ends before the connections that the ranks watch each other by.
    comm: Mutex<CommState>,
    tcp: TcpGroup,
}

/// Communicator in the course of a process.
#[derive(Debug)]
enum CommState {
    /// Created at the first operation on tensors, with the stream of their device.
    New,
    Connected(Communicator),
    /// Finished, or aborted because a rank was lost.
    Ended,
}

fn nccl_error(action: &str, NcclError(code): NcclError) -> CollectiveError {
    CollectiveError::Launch(format!("NCCL cannot {action}: {code:?}; set NCCL_DEBUG=INFO for details"))
}

/// Returns the address of a contiguous tensor on its GPU.
fn pointer(tensor: &Tensor) -> candle_core::Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cuda(storage), Some((first, _))) = (&*storage, layout.contiguous_offsets()) else {
        candle_core::bail!("a tensor for a collective operation is not contiguous on this GPU");
    };
    let stream = storage.device.cuda_stream();
    let base = match &storage.slice {
        CudaStorageSlice::U8(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::BF16(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::F16(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::F32(slice) => slice.device_ptr(&stream).0,
        _ => candle_core::bail!("no collective operation takes {:?}", tensor.dtype()),
    };
    Ok(base + (first * tensor.dtype().size_in_bytes()) as u64)
}

/// Allocates a flat tensor that an operation writes.
fn receive_into(count: usize, like: &Tensor) -> candle_core::Result<Tensor> {
    // SAFETY: the operation writes every element; after an error the tensor is dropped unread.
    #[expect(unsafe_code, reason = "uninitialised memory")]
    let tensor = unsafe { Tensor::empty(count, like.dtype(), like.device()) }?;
    Ok(tensor)
}

impl Shared {
    /// Connects the GPUs. All ranks call it together.
    fn connect(&self, stream: Arc<CudaStream>) -> Result<Communicator, CollectiveError> {
        let (rank, world_size) = (self.tcp.rank(), self.tcp.world_size());
        let id = if rank == 0 {
            UniqueId::new().map_err(|error| nccl_error("create a unique id", error))?.to_bytes()
        } else {
            Vec::new()
        };
        let id =
            UniqueId::from_bytes(self.tcp.broadcast(id)?).ok_or(CollectiveError::OutOfStep { rank: 0 })?;
        let gathers = stream.context().new_stream().w()?;
        Communicator::new(stream, gathers, rank, world_size, id)
            .map_err(|error| nccl_error("connect the GPUs (each rank needs its own)", error))
    }

    /// Starts a collective operation and waits until the GPU has finished it. It runs on the
    /// device's stream, or after an event on the stream of gathers, while the device computes.
    fn run(
        &self,
        action: &str,
        device: &CudaDevice,
        after: Option<&CudaEvent>,
        start: impl FnOnce(&Communicator, &CudaStream) -> Result<(), NcclError>,
    ) -> Result<(), CollectiveError> {
        let mut state = self.comm.lock().unwrap_or_else(PoisonError::into_inner);
        if let CommState::New = *state {
            *state = CommState::Connected(self.connect(device.cuda_stream())?);
        }
        let CommState::Connected(comm) = &*state else {
            return Err(CollectiveError::Launch(format!("NCCL cannot {action} after the group has ended")));
        };
        let stream = if after.is_some() { &comm.gathers } else { &comm.stream };
        stream.context().bind_to_thread().w()?;
        if let Some(event) = after {
            stream.wait(event).w()?;
        }
        start(comm, stream).map_err(|error| nccl_error(action, error))?;
        let done = stream.record_event(None).w()?;
        let mut checked = Instant::now();
        while !done.try_is_complete().w()? {
            if checked.elapsed() < CHECK_INTERVAL {
                thread::yield_now();
                continue;
            }
            if let Err(lost) = self.tcp.check_peers() {
                if let CommState::Connected(comm) = std::mem::replace(&mut *state, CommState::Ended) {
                    comm.abort();
                }
                return Err(lost);
            }
            checked = Instant::now();
        }
        Ok(())
    }

    /// Prepares the sum of flat f32 tensors over all ranks, of which this rank gets `count`
    /// elements.
    fn prepare_sum(
        &self,
        reduction: Reduction,
        own: &Tensor,
        count: usize,
    ) -> Result<PreparedSum<'_>, CollectiveError> {
        let own = own.contiguous()?;
        let sum = receive_into(count, &own)?;
        Ok(Box::new(move || {
            let buffers = Buffers { send: pointer(&own)?, receive: pointer(&sum)? };
            let device = own.device().as_cuda_device()?;
            self.run("sum gradients", device, None, |comm, _| comm.sum_f32(reduction, buffers, count))?;
            Ok(sum)
        }))
    }
}

impl NcclGroup {
    /// Joins the group. Blocks until all ranks have joined. The GPUs connect at the first operation
    /// on tensors.
    ///
    /// # Errors
    /// Fails if a rank does not join in time.
    pub fn join(env: &LaunchEnv) -> Result<Self, CollectiveError> {
        Ok(Self(Arc::new(Shared { comm: Mutex::new(CommState::New), tcp: TcpGroup::join(env)? })))
    }
}

impl Drop for Shared {
    /// Aborts the communicator unless [`finish`](Collective::finish) has ended it: other ranks may
    /// wait for this one, and notice by the closed connections that it is lost.
    fn drop(&mut self) {
        let state = self.comm.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let CommState::Connected(comm) = std::mem::replace(state, CommState::Ended) {
            comm.abort();
        }
    }
}

/// Buffers of the gather of one tensor.
struct GatherBuffers {
    /// This rank's shard, padded to the size of the largest.
    own: Tensor,
    /// Padded shards of all ranks, which the gather writes.
    all: Tensor,
    /// Number of elements of the whole tensor.
    count: usize,
}

impl GatherBuffers {
    fn allocate(Shard { own, count }: &Shard, world_size: usize) -> candle_core::Result<Self> {
        let size = count.div_ceil(world_size);
        let own = own.pad_with_zeros(0, 0, size - own.elem_count())?.contiguous()?;
        Ok(Self { all: receive_into(world_size * size, &own)?, own, count: *count })
    }
}

impl DeviceCollective for NcclGroup {
    fn prepare_all_reduce<'a>(&'a self, own: &Tensor) -> Result<PreparedSum<'a>, CollectiveError> {
        let flat = own.flatten_all()?.to_dtype(DType::F32)?;
        let exchange = self.0.prepare_sum(Reduction::AllReduce, &flat, flat.elem_count())?;
        let shape = own.shape().clone();
        Ok(Box::new(move || Ok(exchange()?.reshape(shape)?)))
    }

    fn prepare_reduce_scatter<'a>(&'a self, own: &Tensor) -> Result<PreparedSum<'a>, CollectiveError> {
        let count = own.elem_count();
        let size = count.div_ceil(self.world_size());
        let padded = own.flatten_all()?.pad_with_zeros(0, 0, self.world_size() * size - count)?;
        let exchange = self.0.prepare_sum(Reduction::ReduceScatter, &padded, size)?;
        let own = self.even_shard(count).len();
        Ok(Box::new(move || Ok(exchange()?.narrow(0, 0, own)?)))
    }

    fn prepare_gather(&self, shards: &[Shard]) -> Result<PreparedGather, CollectiveError> {
        let Some(first) = shards.first() else { return Ok(Box::new(|| Ok(Vec::new()))) };
        let device = first.own.device().as_cuda_device()?.clone();
        let buffers = shards.iter().map(|shard| GatherBuffers::allocate(shard, self.world_size()));
        let buffers = buffers.collect::<candle_core::Result<Vec<_>>>()?;
        // The buffers belong to the device's stream: they exist from here on, and are freed in its
        // order, after their use.
        let allocated = device.cuda_stream().record_event(None).w()?;
        let shared = Arc::clone(&self.0);
        Ok(Box::new(move || {
            let addresses = buffers.iter().map(|GatherBuffers { own, all, .. }| {
                let bytes = own.elem_count() * own.dtype().size_in_bytes();
                Ok((Buffers { send: pointer(own)?, receive: pointer(all)? }, bytes))
            });
            let addresses = addresses.collect::<candle_core::Result<Vec<_>>>()?;
            shared.run("gather weights", &device, Some(&allocated), |comm, stream| {
                comm.all_gather(&addresses, stream)
            })?;
            let whole = buffers.iter().map(|GatherBuffers { all, count, .. }| all.narrow(0, 0, *count));
            Ok(whole.collect::<Result<_, TensorError>>()?)
        }))
    }
}

impl Collective for NcclGroup {
    fn rank(&self) -> usize {
        self.0.tcp.rank()
    }

    fn world_size(&self) -> usize {
        self.0.tcp.world_size()
    }

    fn all_gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, CollectiveError> {
        self.0.tcp.all_gather(own)
    }

    fn all_reduce(&self, values: &mut [f32]) -> Result<(), CollectiveError> {
        self.0.tcp.all_reduce(values)
    }

    fn reduce_scatter(&self, values: &[f32]) -> Result<Vec<f32>, CollectiveError> {
        self.0.tcp.reduce_scatter(values)
    }

    fn finish(&self) -> Result<(), CollectiveError> {
        // NCCL requires that no rank still runs an operation.
        self.0.tcp.barrier()?;
        let mut state = self.0.comm.lock().unwrap_or_else(PoisonError::into_inner);
        if let CommState::Connected(comm) = std::mem::replace(&mut *state, CommState::Ended) {
            comm.finalise();
        }
        Ok(())
    }

    fn device_collective(&self) -> Option<&dyn DeviceCollective> {
        Some(self)
    }
}
