//! NCCL's communicator. cudarc's safe one aborts when dropped; this one can end in order.

use std::{fmt, sync::Arc};

use candle_core::cuda_backend::cudarc::{
    driver::CudaStream,
    nccl::{
        result::{self, NcclError},
        sys,
    },
};

/// Id that the ranks of a group share.
pub(super) struct UniqueId(sys::ncclUniqueId);

impl UniqueId {
    pub(super) fn new() -> Result<Self, NcclError> {
        result::get_uniqueid().map(Self)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.0.internal.iter().map(|byte| *byte as u8).collect()
    }

    /// Returns None if the bytes are not an id.
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let bytes = <[u8; 128]>::try_from(bytes).ok()?;
        Some(Self(sys::ncclUniqueId { internal: bytes.map(|byte| byte as _) }))
    }
}

/// Addresses of device memory that an operation reads and writes.
#[derive(Clone, Copy)]
pub(super) struct Buffers {
    pub(super) send: u64,
    pub(super) receive: u64,
}

/// Kind of a sum over all ranks.
#[derive(Clone, Copy)]
pub(super) enum Reduction {
    /// Each rank receives the whole sum.
    AllReduce,
    /// Each rank receives its part of the sum.
    ReduceScatter,
}

/// Communicator of one rank. [`finalise`](Self::finalise) or [`abort`](Self::abort) ends it.
pub(super) struct Communicator {
    raw: sys::ncclComm_t,
    /// Stream that computes. Sums run on it.
    pub(super) stream: Arc<CudaStream>,
    /// Stream of gathers.
    pub(super) gathers: Arc<CudaStream>,
}

// SAFETY: any thread may use a communicator, one at a time; a mutex guards it.
#[expect(unsafe_code, reason = "the pointer inside is not tied to a thread")]
unsafe impl Send for Communicator {}

impl fmt::Debug for Communicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Communicator").finish_non_exhaustive()
    }
}

#[expect(unsafe_code, reason = "calls of NCCL")]
impl Communicator {
    /// Connects the GPUs of all ranks.
    pub(super) fn new(
        stream: Arc<CudaStream>,
        gathers: Arc<CudaStream>,
        rank: usize,
        world_size: usize,
        UniqueId(id): UniqueId,
    ) -> Result<Self, NcclError> {
        let invalid = |_| NcclError(sys::ncclResult_t::ncclInvalidArgument);
        let (rank, world_size) =
            (i32::try_from(rank).map_err(invalid)?, i32::try_from(world_size).map_err(invalid)?);
        let mut raw = std::ptr::null_mut();
        // SAFETY: NCCL writes the pointer.
        unsafe { result::comm_init_rank(&raw mut raw, world_size, id, rank)? };
        Ok(Self { raw, stream, gathers })
    }

    /// Sums f32 elements over all ranks. Each rank receives `count` of them.
    pub(super) fn sum_f32(
        &self,
        reduction: Reduction,
        buffers: Buffers,
        count: usize,
    ) -> Result<(), NcclError> {
        let reduce = match reduction {
            Reduction::AllReduce => result::all_reduce,
            Reduction::ReduceScatter => result::reduce_scatter,
        };
        // SAFETY: both buffers live until the stream has finished. The one to receive has `count`
        // elements, the one to send as many, or in a scatter as many for each rank.
        unsafe {
            reduce(
                buffers.send as *const _,
                buffers.receive as *mut _,
                count,
                sys::ncclDataType_t::ncclFloat32,
                sys::ncclRedOp_t::ncclSum,
                self.raw,
                self.stream.cu_stream().cast(),
            )?;
        }
        Ok(())
    }

    /// Gathers several tensors as one operation on `stream`, each with its bytes on every rank.
    pub(super) fn all_gather(
        &self,
        tensors: &[(Buffers, usize)],
        stream: &CudaStream,
    ) -> Result<(), NcclError> {
        result::group_start()?;
        let started = tensors.iter().try_for_each(|(buffers, bytes)| {
            // SAFETY: both buffers live until the stream has finished; the one to receive has
            // `bytes` bytes for each rank.
            let started = unsafe {
                result::all_gather(
                    buffers.send as *const _,
                    buffers.receive as *mut _,
                    *bytes,
                    sys::ncclDataType_t::ncclUint8,
                    self.raw,
                    stream.cu_stream().cast(),
                )
            };
            started.map(|_| ())
        });
        result::group_end()?;
        started
    }

    /// Ends the communicator after its operations. All ranks must call it.
    pub(super) fn finalise(self) {
        // SAFETY: nothing uses the pointer afterwards. An error at the end of the process has no
        // consequence.
        unsafe {
            let _ = result::comm_finalize(self.raw);
            let _ = result::comm_destroy(self.raw);
        }
    }

    /// Ends the communicator and its pending operations at once.
    pub(super) fn abort(self) {
        // SAFETY: as above.
        unsafe {
            let _ = result::comm_abort(self.raw);
        }
    }
}
