//! Launch dimensions.

/// Launch dimensions of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// Number of blocks along x and y.
    pub grid: [u32; 2],
    /// Threads of a block, along x. A multiple of the warp size.
    pub block: u32,
    /// Bytes of dynamic shared memory: at most 48 KiB, the limit without a function attribute.
    pub shared_bytes: u32,
}

impl Launch {
    /// Returns true if the grid has no blocks. CUDA rejects such a launch, so callers must skip it.
    pub fn is_empty(&self) -> bool {
        self.grid.contains(&0)
    }

    /// Launches a thread for each of `count` elements, with a grid-stride loop beyond
    /// [`MAX_BLOCKS`].
    pub(crate) fn elements(count: usize) -> Self {
        let blocks = count.div_ceil(THREADS as usize).min(MAX_BLOCKS);
        Self { grid: [blocks as u32, 1], block: THREADS, shared_bytes: 0 }
    }

    /// Launches a row of blocks for each of several tensors, given their numbers of elements, with a
    /// grid-stride loop over the elements of a tensor.
    pub(crate) fn elements_of_each(counts: &[usize]) -> Result<Self, KernelError> {
        let (what, count, limit) = ("tensors", counts.len(), u16::MAX.into());
        if count > limit {
            return Err(KernelError::TooMany { what, count, limit });
        }
        let largest = counts.iter().max().map_or(0, |count| count.div_ceil(THREADS as usize));
        let blocks = largest.min((MAX_BLOCKS / count.max(1)).max(MIN_BLOCKS_OF_EACH));
        Ok(Self { grid: [blocks as u32, count as u32], block: THREADS, shared_bytes: 0 })
    }

    /// Launches a block for each row.
    pub(crate) fn rows(rows: usize, block: u32, shared_bytes: u32) -> Result<Self, KernelError> {
        Ok(Self { grid: [size("rows", rows)?, 1], block, shared_bytes })
    }
}

/// Threads of an elementwise block: enough warps to hide memory latency.
pub(crate) const THREADS: u32 = 256;

/// Largest number of elementwise blocks: more than a GPU runs at once, so that all its
/// multiprocessors stay busy.
const MAX_BLOCKS: usize = 1 << 14;

/// Blocks of a tensor among many, if it has elements for them: enough for the largest not to take
/// much longer than the others.
const MIN_BLOCKS_OF_EACH: usize = 64;

/// Warp size.
pub(crate) const WARP: u32 = 32;

/// Reason that a kernel cannot be launched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// Size above the limit of a launch.
    #[error("{count} {what} exceed the limit of a kernel launch ({limit}): use smaller batches")]
    TooMany {
        /// Counted things, in the plural.
        what: &'static str,
        /// Requested size.
        count: usize,
        /// Largest size.
        limit: usize,
    },
    /// Unsupported number or width of attention heads.
    #[error(
        "attention kernels do not support {query} query heads, {key} key heads and {dim} dimensions: the head dimension \
         must be 1 to 256 and the query heads a multiple of the key heads"
    )]
    Heads {
        /// Number of query heads.
        query: usize,
        /// Number of key heads.
        key: usize,
        /// Head dimension.
        dim: usize,
    },
    /// Overlapping rows of prompts and completions.
    #[error(
        "attention kernels need prompt trees without overlapping rows, with branches after their prompt: rows \
         {first}..{end} violate this"
    )]
    Trees {
        /// First row of the range.
        first: usize,
        /// End of the range (exclusive).
        end: usize,
    },
}

/// Converts `count` to the u32 of a launch dimension or argument.
pub(crate) fn size(what: &'static str, count: usize) -> Result<u32, KernelError> {
    let limit = i32::MAX as usize;
    if count > limit {
        return Err(KernelError::TooMany { what, count, limit });
    }
    Ok(count as u32)
}
