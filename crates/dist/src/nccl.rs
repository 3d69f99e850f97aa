//! Members whose GPUs reach each other through NCCL.
//!
//! Connections of [`Sockets`] bring the members together and carry what is small; gradients and weights go from GPU to GPU. A GPU
//! that waits for a lost one would wait for ever, so the process looks after the others while it waits.

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

use crate::{Collective, CollectiveError, Devices, LaunchEnv, Sockets};

/// How often a process that waits for its GPU looks whether the others are still there.
const LOOK: Duration = Duration::from_millis(100);

/// A process's hold on a group whose GPUs reach each other.
pub struct Nccl {
    sockets: Sockets,
    comm: Mutex<Option<Handle>>,
}

/// NCCL's communicator. Dropping it ends what waits for others.
struct Handle(Comm);

// SAFETY: a communicator may be used by any thread, by one at a time; it is kept behind a lock.
#[expect(unsafe_code, reason = "the pointer inside is not tied to a thread")]
unsafe impl Send for Handle {}

impl fmt::Debug for Nccl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nccl").field("sockets", &self.sockets).finish_non_exhaustive()
    }
}

fn failed(what: &str, NcclError(code): NcclError) -> CollectiveError {
    CollectiveError::Launch(format!("NCCL cannot {what}: {code:?}; NCCL_DEBUG=INFO makes it say more"))
}

impl Nccl {
    /// Joins the group, with the GPU of this process's number on its machine. Returns when all members are there.
    pub fn join(launched: &LaunchEnv) -> Result<Self, CollectiveError> {
        let sockets = Sockets::join(launched)?;
        let context = CudaContext::new(launched.local_rank).w()?;
        let id = if launched.rank == 0 {
            let id = Id::new().map_err(|error| failed("name the group", error))?;
            id.internal().iter().map(|byte| *byte as u8).collect()
        } else {
            Vec::new()
        };
        let id = sockets.broadcast(id)?;
        let id = <[u8; 128]>::try_from(id).map_err(|_| CollectiveError::OutOfStep { rank: 0 })?;
        // The stream on which candle works: that of the thread that calls.
        let stream = context.per_thread_stream();
        let comm =
            Comm::from_rank(stream, launched.rank, launched.size, Id::uninit(id.map(|byte| byte as _)))
                .map_err(|error| failed("join the GPUs (one for each rank)", error))?;
        Ok(Self { sockets, comm: Mutex::new(Some(Handle(comm))) })
    }

    /// Makes all GPUs do something together, and waits for this one.
    fn together(
        &self,
        what: &str,
        work: impl FnOnce(&Comm) -> Result<(), NcclError>,
    ) -> Result<(), CollectiveError> {
        let mut held = self.comm.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Handle(comm)) = held.as_ref() else {
            return Err(CollectiveError::Launch(format!("NCCL cannot {what} after a rank has gone")));
        };
        comm.context().bind_to_thread().w()?;
        work(comm).map_err(|error| failed(what, error))?;
        let done = comm.stream().record_event(None).w()?;
        let mut looked = Instant::now();
        while !done.try_is_complete().w()? {
            if looked.elapsed() < LOOK {
                thread::yield_now();
                continue;
            }
            if let Err(gone) = self.sockets.look() {
                *held = None;
                return Err(gone);
            }
            looked = Instant::now();
        }
        Ok(())
    }

    /// Makes a matrix of this shape of a tensor that all members give: `work` tells NCCL what to do.
    fn exchange<T>(
        &self,
        what: &str,
        own: &Tensor,
        shape: (usize, usize),
        work: impl FnOnce(&Comm, &CudaView<'_, T>, &mut CudaSlice<T>) -> Result<NcclStatus, NcclError>,
    ) -> Result<Tensor, CollectiveError>
    where
        T: CudaDType + DeviceRepr + ValidAsZeroBits,
    {
        let own = own.contiguous()?;
        let device = own.device().as_cuda_device()?;
        let mut made = device.alloc_zeros::<T>(shape.0 * shape.1)?;
        {
            let (storage, layout) = own.storage_and_layout();
            let (Storage::Cuda(storage), Some((first, end))) = (&*storage, layout.contiguous_offsets())
            else {
                let message = "a tensor for the other GPUs is not on this one, in one piece";
                return Err(TensorError::Msg(message.to_owned()).into());
            };
            let own = storage.as_cuda_slice::<T>()?.slice(first..end);
            self.together(what, |comm| work(comm, &own, &mut made).map(|_| ()))?;
        }
        let made = Storage::Cuda(CudaStorage::wrap_cuda_slice(made, device.clone()));
        Ok(Tensor::from_storage(made, shape, BackpropOp::none(), false))
    }

    /// The rows of all members, each of which gives `most` of them.
    fn gather<T>(&self, own: &Tensor, most: usize) -> Result<Tensor, CollectiveError>
    where
        T: CudaDType + DeviceRepr + NcclType + ValidAsZeroBits,
    {
        let (rows, columns) = own.dims2()?;
        let own = own.pad_with_zeros(0, 0, most - rows)?;
        let shape = (self.size() * most, columns);
        self.exchange::<T>("put weights together", &own, shape, |comm, own, all| comm.all_gather(own, all))
    }
}

impl Devices for Nccl {
    fn all_reduce(&self, own: &Tensor) -> Result<Tensor, CollectiveError> {
        let flat = own.to_dtype(DType::F32)?;
        let shape = (1, own.elem_count());
        let sum = self.exchange::<f32>("add up gradients", &flat, shape, |comm, own, sum| {
            comm.all_reduce(own, sum, &ReduceOp::Sum)
        })?;
        Ok(sum.reshape(own.shape())?)
    }

    fn all_gather(&self, own: &Tensor, rows: usize) -> Result<Tensor, CollectiveError> {
        let most = rows.div_ceil(self.size());
        let all = match own.dtype() {
            DType::F32 => self.gather::<f32>(own, most)?,
            DType::BF16 => self.gather::<half::bf16>(own, most)?,
            DType::F16 => self.gather::<half::f16>(own, most)?,
            other => return Err(TensorError::Msg(format!("no weights are kept in {other:?}")).into()),
        };
        if most * self.size() == rows {
            return Ok(all);
        }
        let parts = (0..self.size()).map(|rank| all.narrow(0, rank * most, self.part_of(rank, rows).len()));
        Ok(Tensor::cat(&parts.collect::<Result<Vec<_>, _>>()?, 0)?)
    }
}

impl Collective for Nccl {
    fn rank(&self) -> usize {
        self.sockets.rank()
    }

    fn size(&self) -> usize {
        self.sockets.size()
    }

    fn gather(&self, given: Vec<u8>) -> Result<Vec<Vec<u8>>, CollectiveError> {
        self.sockets.gather(given)
    }

    fn sum(&self, values: &mut [f32]) -> Result<(), CollectiveError> {
        self.sockets.sum(values)
    }

    fn devices(&self) -> Option<&dyn Devices> {
        Some(self)
    }
}
