//! The size of a launch.

/// The size of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// Blocks along x and y.
    pub grid: [u32; 2],
    /// Threads of a block, along x: whole warps.
    pub block: u32,
    /// Bytes of dynamic shared memory, at most 48 KiB: no kernel needs leave for more.
    pub shared_bytes: u32,
}

impl Launch {
    /// Whether there is nothing to do. CUDA refuses a launch without blocks, so it must be left out.
    pub fn is_empty(&self) -> bool {
        self.grid.contains(&0)
    }

    /// A thread for each of `count` elements, or for several at a distance.
    pub(crate) fn elements(count: usize) -> Self {
        let blocks = count.div_ceil(THREADS as usize).min(MOST_BLOCKS);
        Self { grid: [blocks as u32, 1], block: THREADS, shared_bytes: 0 }
    }

    /// A block for each row.
    pub(crate) fn rows(rows: usize, block: u32, shared_bytes: u32) -> Result<Self, KernelError> {
        Ok(Self { grid: [size("rows", rows)?, 1], block, shared_bytes })
    }
}

/// Threads of a block that goes over elements: enough warps to hide the way to memory.
pub(crate) const THREADS: u32 = 256;

/// Blocks that go over elements: more than a GPU runs at once, so that none of its processors waits for another.
const MOST_BLOCKS: usize = 1 << 14;

/// Threads of a warp.
pub(crate) const WARP: u32 = 32;

/// Why a kernel cannot be launched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// A size beyond what a launch takes.
    #[error("{count} {what} are more than a kernel launch takes ({most}); use smaller batches")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// The shape of attention cannot be used.
    #[error(
        "attention kernels are for heads of 1 to 256 dimensions and query heads in equal groups, not for {query} \
         query heads, {key} key heads and {dim} dimensions"
    )]
    Heads {
        /// Query heads.
        query: usize,
        /// Key heads.
        key: usize,
        /// Dimensions of a head.
        dim: usize,
    },
    /// The forest cannot be used.
    #[error(
        "attention kernels need trees whose rows lie apart, and branches after their prompt; rows {first}..{end} do not"
    )]
    Trees {
        /// First row of the range.
        first: usize,
        /// The row after its last.
        end: usize,
    },
}

/// `count` as the u32 that a launch or an argument takes.
pub(crate) fn size(what: &'static str, count: usize) -> Result<u32, KernelError> {
    let most = i32::MAX as usize;
    if count > most {
        return Err(KernelError::TooMany { what, count, most });
    }
    Ok(count as u32)
}
