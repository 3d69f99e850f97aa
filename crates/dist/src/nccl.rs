//! Experimental group whose GPUs communicate through NCCL. Needs `--features nccl`, and has never
//! run on GPUs so far.
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
        CudaDType, CudaStorage, WrapErr,
        cudarc::{
            driver::{CudaStream, DevicePtr, DevicePtrMut, DeviceRepr, ValidAsZeroBits},
            nccl::result::NcclError,
        },
    },
    op::BackpropOp,
};

mod communicator;

use crate::{Collective, CollectiveError, DeviceCollective, LaunchEnv, TcpGroup};
use communicator::{Buffers, Communicator, UniqueId};

/// Interval between checks of the connections while a GPU operation runs.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// One process's handle on a group whose GPUs communicate through NCCL.
#[derive(Debug)]
pub struct NcclGroup {
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

impl NcclGroup {
    /// Joins the group. Blocks until all ranks have joined. The GPUs connect at the first operation
    /// on tensors.
    ///
    /// # Errors
    /// Fails if a rank does not join in time.
    pub fn join(env: &LaunchEnv) -> Result<Self, CollectiveError> {
        Ok(Self { comm: Mutex::new(CommState::New), tcp: TcpGroup::join(env)? })
    }

    /// Connects the GPUs. All ranks call it together.
    fn connect(&self, stream: Arc<CudaStream>) -> Result<Communicator, CollectiveError> {
        let id = if self.rank() == 0 {
            UniqueId::new().map_err(|error| nccl_error("create a unique id", error))?.to_bytes()
        } else {
            Vec::new()
        };
        let id =
            UniqueId::from_bytes(self.tcp.broadcast(id)?).ok_or(CollectiveError::OutOfStep { rank: 0 })?;
        Communicator::new(stream, self.rank(), self.world_size(), id)
            .map_err(|error| nccl_error("connect the GPUs (each rank needs its own)", error))
    }

    /// Starts a collective operation on a device's stream and waits until the GPU has finished it.
    fn run(
        &self,
        action: &str,
        device: &CudaDevice,
        start: impl FnOnce(&Communicator) -> Result<(), NcclError>,
    ) -> Result<(), CollectiveError> {
        let mut state = self.comm.lock().unwrap_or_else(PoisonError::into_inner);
        if let CommState::New = *state {
            *state = CommState::Connected(self.connect(device.cuda_stream())?);
        }
        let CommState::Connected(comm) = &*state else {
            return Err(CollectiveError::Launch(format!("NCCL cannot {action} after the group has ended")));
        };
        let stream = device.cuda_stream();
        stream.context().bind_to_thread().w()?;
        start(comm).map_err(|error| nccl_error(action, error))?;
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

    /// Runs a collective operation from the elements of `own` into a new flat tensor of `count`
    /// elements.
    fn run_into<T>(
        &self,
        action: &str,
        own: &Tensor,
        count: usize,
        start: impl FnOnce(&Communicator, Buffers) -> Result<(), NcclError>,
    ) -> Result<Tensor, CollectiveError>
    where
        T: CudaDType + DeviceRepr + ValidAsZeroBits,
    {
        let own = own.contiguous()?;
        let device = own.device().as_cuda_device()?;
        let stream = device.cuda_stream();
        let mut output = device.alloc_zeros::<T>(count)?;
        {
            let (storage, layout) = own.storage_and_layout();
            let (Storage::Cuda(storage), Some((first, end))) = (&*storage, layout.contiguous_offsets())
            else {
                let message = "a tensor for a collective operation is not contiguous on this GPU";
                return Err(TensorError::Msg(message.to_owned()).into());
            };
            let own = storage.as_cuda_slice::<T>()?.slice(first..end);
            let (send, _sending) = own.device_ptr(&stream);
            let (receive, _receiving) = output.device_ptr_mut(&stream);
            self.run(action, device, |comm| start(comm, Buffers { send, receive }))?;
        }
        let output = Storage::Cuda(CudaStorage::wrap_cuda_slice(output, device.clone()));
        Ok(Tensor::from_storage(output, count, BackpropOp::none(), false))
    }

    /// Gathers as many elements from each rank as `own` has, in rank order.
    fn gather_equal(&self, own: &Tensor) -> Result<Tensor, CollectiveError> {
        let sent = own.elem_count();
        let count = self.world_size() * sent;
        let action = "gather weights";
        match own.dtype() {
            DType::F32 => {
                self.run_into::<f32>(action, own, count, |comm, buffers| comm.all_gather(buffers, 4 * sent))
            }
            DType::BF16 => self.run_into::<half::bf16>(action, own, count, |comm, buffers| {
                comm.all_gather(buffers, 2 * sent)
            }),
            DType::F16 => self.run_into::<half::f16>(action, own, count, |comm, buffers| {
                comm.all_gather(buffers, 2 * sent)
            }),
            other => Err(TensorError::Msg(format!("cannot gather weights of type {other:?}")).into()),
        }
    }
}

impl Drop for NcclGroup {
    /// Aborts the communicator unless [`finish`](Collective::finish) has ended it: other ranks may
    /// wait for this one, and notice by the closed connections that it is lost.
    fn drop(&mut self) {
        let state = self.comm.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let CommState::Connected(comm) = std::mem::replace(state, CommState::Ended) {
            comm.abort();
        }
    }
}

impl DeviceCollective for NcclGroup {
    fn all_reduce_on_device(&self, own: &Tensor) -> Result<Tensor, CollectiveError> {
        let (flat, count) = (own.to_dtype(DType::F32)?, own.elem_count());
        let sum = self.run_into::<f32>("sum gradients", &flat, count, |comm, buffers| {
            comm.all_reduce_f32(buffers, count)
        })?;
        Ok(sum.reshape(own.shape())?)
    }

    fn all_gather_on_device(&self, own: &Tensor, rows: usize) -> Result<Tensor, CollectiveError> {
        let (own_rows, columns) = own.dims2()?;
        let padded_rows = rows.div_ceil(self.world_size());
        let own = own.pad_with_zeros(0, 0, padded_rows - own_rows)?;
        let all = self.gather_equal(&own)?.reshape((self.world_size() * padded_rows, columns))?;
        if padded_rows * self.world_size() == rows {
            return Ok(all);
        }
        let shards = (0..self.world_size())
            .map(|rank| all.narrow(0, rank * padded_rows, self.shard_range_of(rank, rows).len()));
        Ok(Tensor::cat(&shards.collect::<Result<Vec<_>, _>>()?, 0)?)
    }

    fn reduce_scatter_on_device(&self, own: &Tensor) -> Result<Tensor, CollectiveError> {
        let count = own.elem_count();
        let size = count.div_ceil(self.world_size());
        let padded = own.flatten_all()?.pad_with_zeros(0, 0, self.world_size() * size - count)?;
        let sum = self.run_into::<f32>("sum gradients", &padded, size, |comm, buffers| {
            comm.reduce_scatter_f32(buffers, size)
        })?;
        Ok(sum.narrow(0, 0, self.even_shard(count).len())?)
    }

    fn all_gather_shards_on_device(&self, own: &Tensor, count: usize) -> Result<Tensor, CollectiveError> {
        let size = count.div_ceil(self.world_size());
        let padded = own.flatten_all()?.pad_with_zeros(0, 0, size - own.elem_count())?;
        Ok(self.gather_equal(&padded)?.narrow(0, 0, count)?)
    }
}

impl Collective for NcclGroup {
    fn rank(&self) -> usize {
        self.tcp.rank()
    }

    fn world_size(&self) -> usize {
        self.tcp.world_size()
    }

    fn all_gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, CollectiveError> {
        self.tcp.all_gather(own)
    }

    fn all_reduce(&self, values: &mut [f32]) -> Result<(), CollectiveError> {
        self.tcp.all_reduce(values)
    }

    fn reduce_scatter(&self, values: &[f32]) -> Result<Vec<f32>, CollectiveError> {
        self.tcp.reduce_scatter(values)
    }

    fn finish(&self) -> Result<(), CollectiveError> {
        // NCCL requires that no rank still runs an operation.
        self.tcp.barrier()?;
        let mut state = self.comm.lock().unwrap_or_else(PoisonError::into_inner);
        if let CommState::Connected(comm) = std::mem::replace(&mut *state, CommState::Ended) {
            comm.finalise();
        }
        Ok(())
    }

    fn device_collective(&self) -> Option<&dyn DeviceCollective> {
        Some(self)
    }
}
