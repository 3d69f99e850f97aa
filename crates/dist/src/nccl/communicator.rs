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

/// Communicator of one rank. [`finalise`](Self::finalise) or [`abort`](Self::abort) ends it.
pub(super) struct Communicator {
    raw: sys::ncclComm_t,
    stream: Arc<CudaStream>,
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
    /// Connects the GPUs of all ranks. Operations run on `stream`.
    pub(super) fn new(
        stream: Arc<CudaStream>,
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
        Ok(Self { raw, stream })
    }

    /// Sums `count` f32 elements over all ranks.
    pub(super) fn all_reduce_f32(&self, buffers: Buffers, count: usize) -> Result<(), NcclError> {
        // SAFETY: both buffers have `count` elements and live until the stream has finished.
        unsafe {
            result::all_reduce(
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

    /// Sums f32 elements over all ranks; each rank receives `count` of them.
    pub(super) fn reduce_scatter_f32(&self, buffers: Buffers, count: usize) -> Result<(), NcclError> {
        // SAFETY: as above; the buffer to send has `count` elements for each rank.
        unsafe {
            result::reduce_scatter(
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

    /// Gathers `bytes` bytes from each rank.
    pub(super) fn all_gather(&self, buffers: Buffers, bytes: usize) -> Result<(), NcclError> {
        // SAFETY: as above; the buffer to receive has `bytes` bytes for each rank.
        unsafe {
            result::all_gather(
                buffers.send as *const _,
                buffers.receive as *mut _,
                bytes,
                sys::ncclDataType_t::ncclUint8,
                self.raw,
                self.stream.cu_stream().cast(),
            )?;
        }
        Ok(())
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
