//! Experimental group whose GPUs communicate through NCCL. Needs `--features nccl`, and has never
//! run on GPUs so far.
//!
//! The TCP connections of [`TcpGroup`] exchange NCCL's unique id and all small data. Gradients and
//! weights go from GPU to GPU. A GPU would wait forever for a lost rank, so the process checks the
//! connections meanwhile.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use candle_core::{
    DType, Error as TensorError, Storage, Tensor,
    cuda_backend::{
        CudaDType, CudaStorage, WrapErr,
        cudarc::{
            driver::{CudaContext, CudaSlice, CudaView, DeviceRepr, ValidAsZeroBits},
            nccl::{
                Comm, Id, NcclType, ReduceOp,
                result::{NcclError, NcclStatus},
            },
        },
    },
    op::BackpropOp,
};

use crate::{Collective, CollectiveError, DeviceCollective, LaunchEnv, TcpGroup};

/// Interval between checks of the connections while a GPU operation runs.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// One process's handle on a group whose GPUs communicate through NCCL.
pub struct NcclGroup {
    tcp: TcpGroup,
    /// `None` after a rank was lost.
    comm: Mutex<Option<Communicator>>,
}

/// NCCL's communicator. Dropping it aborts pending operations.
struct Communicator(Comm);

// SAFETY: any thread may use a communicator, one at a time; a mutex guards it.
#[expect(unsafe_code, reason = "the pointer inside is not tied to a thread")]
unsafe impl Send for Communicator {}

impl fmt::Debug for NcclGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NcclGroup").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}

fn nccl_error(action: &str, NcclError(code): NcclError) -> CollectiveError {
    CollectiveError::Launch(format!("NCCL cannot {action}: {code:?}; set NCCL_DEBUG=INFO for details"))
}

impl NcclGroup {
    /// Joins the group with the GPU of this process's local rank. Blocks until all ranks have
    /// joined.
    ///
    /// # Errors
    /// Fails if a rank does not join in time or NCCL cannot connect the GPUs.
    pub fn join(env: &LaunchEnv) -> Result<Self, CollectiveError> {
        let tcp = TcpGroup::join(env)?;
        let context = CudaContext::new(env.local_rank).w()?;
        let id = if env.rank == 0 {
            let id = Id::new().map_err(|error| nccl_error("create a unique id", error))?;
            id.internal().iter().map(|byte| *byte as u8).collect()
        } else {
            Vec::new()
        };
        let id = tcp.broadcast(id)?;
        let id = <[u8; 128]>::try_from(id).map_err(|_| CollectiveError::OutOfStep { rank: 0 })?;
        // Candle's stream: that of the calling thread.
        let stream = context.per_thread_stream();
        let comm = Comm::from_rank(stream, env.rank, env.world_size, Id::uninit(id.map(|byte| byte as _)))
            .map_err(|error| nccl_error("connect the GPUs (each rank needs its own)", error))?;
        Ok(Self { tcp, comm: Mutex::new(Some(Communicator(comm))) })
    }

    /// Starts a collective operation and waits until this GPU has finished it.
    fn run(
        &self,
        action: &str,
        start: impl FnOnce(&Comm) -> Result<(), NcclError>,
    ) -> Result<(), CollectiveError> {
        let mut held = self.comm.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Communicator(comm)) = held.as_ref() else {
            return Err(CollectiveError::Launch(format!("NCCL cannot {action} after a rank was lost")));
        };
        comm.context().bind_to_thread().w()?;
        start(comm).map_err(|error| nccl_error(action, error))?;
        let done = comm.stream().record_event(None).w()?;
        let mut checked = Instant::now();
        while !done.try_is_complete().w()? {
            if checked.elapsed() < CHECK_INTERVAL {
                thread::yield_now();
                continue;
            }
            if let Err(lost) = self.tcp.check_peers() {
                *held = None;
                return Err(lost);
            }
            checked = Instant::now();
        }
        Ok(())
    }

    /// Runs a collective operation from `own` into a new matrix. `start` calls NCCL with input and
    /// output.
    fn run_into_matrix<T>(
        &self,
        action: &str,
        own: &Tensor,
        shape: (usize, usize),
        start: impl FnOnce(&Comm, &CudaView<'_, T>, &mut CudaSlice<T>) -> Result<NcclStatus, NcclError>,
    ) -> Result<Tensor, CollectiveError>
    where
        T: CudaDType + DeviceRepr + ValidAsZeroBits,
    {
        let own = own.contiguous()?;
        let device = own.device().as_cuda_device()?;
        let mut output = device.alloc_zeros::<T>(shape.0 * shape.1)?;
        {
            let (storage, layout) = own.storage_and_layout();
            let (Storage::Cuda(storage), Some((first, end))) = (&*storage, layout.contiguous_offsets())
            else {
                let message = "a tensor for a collective operation is not contiguous on this GPU";
                return Err(TensorError::Msg(message.to_owned()).into());
            };
            let own = storage.as_cuda_slice::<T>()?.slice(first..end);
            self.run(action, |comm| start(comm, &own, &mut output).map(|_| ()))?;
        }
        let output = Storage::Cuda(CudaStorage::wrap_cuda_slice(output, device.clone()));
        Ok(Tensor::from_storage(output, shape, BackpropOp::none(), false))
    }

    /// Gathers the rows of all ranks, each padded with zeros to `padded_rows`.
    fn gather_padded<T>(&self, own: &Tensor, padded_rows: usize) -> Result<Tensor, CollectiveError>
    where
        T: CudaDType + DeviceRepr + NcclType + ValidAsZeroBits,
    {
        let (rows, columns) = own.dims2()?;
        let own = own.pad_with_zeros(0, 0, padded_rows - rows)?;
        let shape = (self.world_size() * padded_rows, columns);
        self.run_into_matrix::<T>("gather weights", &own, shape, |comm, own, all| comm.all_gather(own, all))
    }
}

impl DeviceCollective for NcclGroup {
    fn all_reduce_on_device(&self, own: &Tensor) -> Result<Tensor, CollectiveError> {
        let flat = own.to_dtype(DType::F32)?;
        let shape = (1, own.elem_count());
        let sum = self.run_into_matrix::<f32>("sum gradients", &flat, shape, |comm, own, sum| {
            comm.all_reduce(own, sum, &ReduceOp::Sum)
        })?;
        Ok(sum.reshape(own.shape())?)
    }

    fn all_gather_on_device(&self, own: &Tensor, rows: usize) -> Result<Tensor, CollectiveError> {
        let padded_rows = rows.div_ceil(self.world_size());
        let all = match own.dtype() {
            DType::F32 => self.gather_padded::<f32>(own, padded_rows)?,
            DType::BF16 => self.gather_padded::<half::bf16>(own, padded_rows)?,
            DType::F16 => self.gather_padded::<half::f16>(own, padded_rows)?,
            other => {
                return Err(TensorError::Msg(format!("cannot gather weights of type {other:?}")).into());
            }
        };
        if padded_rows * self.world_size() == rows {
            return Ok(all);
        }
        let shards = (0..self.world_size())
            .map(|rank| all.narrow(0, rank * padded_rows, self.shard_range_of(rank, rows).len()));
        Ok(Tensor::cat(&shards.collect::<Result<Vec<_>, _>>()?, 0)?)
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

    fn device_collective(&self) -> Option<&dyn DeviceCollective> {
        Some(self)
    }
}
