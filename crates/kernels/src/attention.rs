//! Attention over packed prompt trees: a row attends to its prompt, and causally to its own branch.
//!
//! | tensors | shape |
//! |---|---|
//! | `q`, `y` and their gradients | `[rows, query_heads·dim]` |
//! | `k`, `v` and their gradients | `[rows, key_heads·dim]` |
//! | `lse` (log-sum-exp of the scores), `delta` | `[rows, query_heads]`, f32 |
//!
//! A [`TilePlan`] holds the mask. Scores are scaled by 1/√dim.

mod plan;
mod twin;

pub use plan::{AttentionTree, HeadCounts, TilePlan};
pub use twin::{AttentionGradients, AttentionOutput, backward, delta, forward};

use crate::{
    Element, Kernel, KernelError, Launch, Operation, ScalarType,
    kernel::{ATTENTION, KernelParameter, read, value, write},
    launch::{self, WARP, size},
};

const FORWARD: &[KernelParameter] = &[
    write("y", ScalarType::Generic),
    write("lse", ScalarType::F32),
    read("q", ScalarType::Generic),
    read("k", ScalarType::Generic),
    read("v", ScalarType::Generic),
    read("tiles", ScalarType::U32),
    value("query_heads", ScalarType::U32),
    value("key_heads", ScalarType::U32),
    value("dim", ScalarType::U32),
    value("scale", ScalarType::F32),
];

const BACKWARD_QUERIES: &[KernelParameter] = &[
    write("dq", ScalarType::Generic),
    read("q", ScalarType::Generic),
    read("k", ScalarType::Generic),
    read("v", ScalarType::Generic),
    read("grad", ScalarType::Generic),
    read("lse", ScalarType::F32),
    read("delta", ScalarType::F32),
    read("tiles", ScalarType::U32),
    value("query_heads", ScalarType::U32),
    value("key_heads", ScalarType::U32),
    value("dim", ScalarType::U32),
    value("scale", ScalarType::F32),
];

const BACKWARD_KEYS: &[KernelParameter] = &[
    write("dk", ScalarType::Generic),
    write("dv", ScalarType::Generic),
    read("q", ScalarType::Generic),
    read("k", ScalarType::Generic),
    read("v", ScalarType::Generic),
    read("grad", ScalarType::Generic),
    read("lse", ScalarType::F32),
    read("delta", ScalarType::F32),
    read("tiles", ScalarType::U32),
    read("spans", ScalarType::U32),
    value("query_heads", ScalarType::U32),
    value("key_heads", ScalarType::U32),
    value("dim", ScalarType::U32),
    value("scale", ScalarType::F32),
];

const fn operation(name: &'static str, parameters: &'static [KernelParameter]) -> Operation {
    Operation { source: &ATTENTION, name, parameters }
}

/// Operation of [`delta`]. `heads` is rows·query heads.
pub static DELTA: Operation = operation(
    "attention_delta",
    &[
        write("delta", ScalarType::F32),
        read("grad", ScalarType::Generic),
        read("y", ScalarType::Generic),
        value("heads", ScalarType::U64),
        value("dim", ScalarType::U32),
    ],
);

static FORWARD_64: Operation = operation("attention_forward_64", FORWARD);
static FORWARD_128: Operation = operation("attention_forward_128", FORWARD);
static FORWARD_256: Operation = operation("attention_forward_256", FORWARD);
static BACKWARD_QUERIES_64: Operation = operation("attention_backward_queries_64", BACKWARD_QUERIES);
static BACKWARD_QUERIES_128: Operation = operation("attention_backward_queries_128", BACKWARD_QUERIES);
static BACKWARD_QUERIES_256: Operation = operation("attention_backward_queries_256", BACKWARD_QUERIES);
static BACKWARD_KEYS_64: Operation = operation("attention_backward_keys_64", BACKWARD_KEYS);
static BACKWARD_KEYS_128: Operation = operation("attention_backward_keys_128", BACKWARD_KEYS);
static BACKWARD_KEYS_256: Operation = operation("attention_backward_keys_256", BACKWARD_KEYS);

pub(crate) static OPERATIONS: &[&Operation] = &[
    &DELTA,
    &FORWARD_64,
    &FORWARD_128,
    &FORWARD_256,
    &BACKWARD_QUERIES_64,
    &BACKWARD_QUERIES_128,
    &BACKWARD_QUERIES_256,
    &BACKWARD_KEYS_64,
    &BACKWARD_KEYS_128,
    &BACKWARD_KEYS_256,
];

/// Returns the launch of [`DELTA`]: a warp for each row and head.
pub fn delta_launch(rows: usize, heads: HeadCounts) -> Result<Launch, KernelError> {
    let warps = launch::THREADS / WARP;
    let blocks = (rows * heads.query).div_ceil(warps as usize);
    Ok(Launch { grid: [size("rows of heads", blocks)?, 1], block: launch::THREADS, shared_bytes: 0 })
}

/// Kernels by head dimension. Their sources keep a head in 32 lanes times a fixed number of
/// registers, so there are three of each: for up to 64, 128 and 256 dimensions.
impl HeadCounts {
    /// Returns the kernel of [`forward`]. Launch: [`TilePlan::forward`]; `tiles`:
    /// [`TilePlan::query_tiles`].
    pub fn forward(self, element: Element) -> Kernel {
        self.select([&FORWARD_64, &FORWARD_128, &FORWARD_256]).kernel(element)
    }

    /// Returns the kernel of [`AttentionGradients::dq`]. Launch: [`TilePlan::backward_queries`];
    /// `tiles`: [`TilePlan::query_tiles`].
    pub fn backward_queries(self, element: Element) -> Kernel {
        self.select([&BACKWARD_QUERIES_64, &BACKWARD_QUERIES_128, &BACKWARD_QUERIES_256]).kernel(element)
    }

    /// Returns the kernel of [`AttentionGradients::dk`] and [`AttentionGradients::dv`]. Launch:
    /// [`TilePlan::backward_keys`]; `tiles`: [`TilePlan::key_tiles`].
    pub fn backward_keys(self, element: Element) -> Kernel {
        self.select([&BACKWARD_KEYS_64, &BACKWARD_KEYS_128, &BACKWARD_KEYS_256]).kernel(element)
    }

    fn select(self, by_width: [&'static Operation; 3]) -> &'static Operation {
        match self.dim {
            0..=64 => by_width[0],
            65..=128 => by_width[1],
            _ => by_width[2],
        }
    }
}
