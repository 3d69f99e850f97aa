//! Attention over a forest: a row attends to its prompt and causally to its own branch.
//!
//! `q`, `y` and their gradients are `[rows, query_heads·dim]`, `k`, `v` and theirs `[rows, key_heads·dim]`; `log_sum` and
//! `delta` are `[rows, query_heads]` in f32. Which rows see which is in a [`Plan`]; scores are scaled by 1/√dim.

mod plan;
mod twin;

pub use plan::{Heads, Plan, Tree};
pub use twin::{Attended, Gradients, backward, delta, forward};

use crate::{
    Element, Item, Kernel, KernelError, Launch, Operation,
    kernel::{ATTENTION, Parameter, read, value, write},
    launch::{self, WARP, size},
};

const FORWARD: &[Parameter] = &[
    write("y", Item::Any),
    write("log_sum", Item::F32),
    read("q", Item::Any),
    read("k", Item::Any),
    read("v", Item::Any),
    read("tiles", Item::U32),
    value("query_heads", Item::U32),
    value("key_heads", Item::U32),
    value("dim", Item::U32),
    value("scale", Item::F32),
];

const BACKWARD_QUERIES: &[Parameter] = &[
    write("dq", Item::Any),
    read("q", Item::Any),
    read("k", Item::Any),
    read("v", Item::Any),
    read("grad", Item::Any),
    read("log_sum", Item::F32),
    read("delta", Item::F32),
    read("tiles", Item::U32),
    value("query_heads", Item::U32),
    value("key_heads", Item::U32),
    value("dim", Item::U32),
    value("scale", Item::F32),
];

const BACKWARD_KEYS: &[Parameter] = &[
    write("dk", Item::Any),
    write("dv", Item::Any),
    read("q", Item::Any),
    read("k", Item::Any),
    read("v", Item::Any),
    read("grad", Item::Any),
    read("log_sum", Item::F32),
    read("delta", Item::F32),
    read("tiles", Item::U32),
    read("spans", Item::U32),
    value("query_heads", Item::U32),
    value("key_heads", Item::U32),
    value("dim", Item::U32),
    value("scale", Item::F32),
];

const fn operation(name: &'static str, parameters: &'static [Parameter]) -> Operation {
    Operation { source: &ATTENTION, name, parameters }
}

/// [`delta`] of every row and head; `heads` is rows·query heads.
pub static DELTA: Operation = operation(
    "attention_delta",
    &[
        write("delta", Item::F32),
        read("grad", Item::Any),
        read("y", Item::Any),
        value("heads", Item::U64),
        value("dim", Item::U32),
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

/// Of [`DELTA`]: a warp for each row and head.
pub fn delta_launch(rows: usize, heads: Heads) -> Result<Launch, KernelError> {
    let warps = launch::THREADS / WARP;
    let blocks = (rows * heads.query).div_ceil(warps as usize);
    Ok(Launch { grid: [size("rows of heads", blocks)?, 1], block: launch::THREADS, shared_bytes: 0 })
}

/// The kernels for heads of some width. Their sources keep what belongs to a head in 32 lanes times a fixed number of
/// registers.
impl Heads {
    /// [`forward`], launched as [`Plan::forward`]; `tiles` are the plan's query tiles.
    pub fn forward(self, element: Element) -> Kernel {
        self.choose([&FORWARD_64, &FORWARD_128, &FORWARD_256]).kernel(element)
    }

    /// [`Gradients::dq`], launched as [`Plan::backward_queries`]; `tiles` are the plan's query tiles.
    pub fn backward_queries(self, element: Element) -> Kernel {
        self.choose([&BACKWARD_QUERIES_64, &BACKWARD_QUERIES_128, &BACKWARD_QUERIES_256]).kernel(element)
    }

    /// [`Gradients::dk`] and [`Gradients::dv`], launched as [`Plan::backward_keys`]; `tiles` are the plan's key tiles.
    pub fn backward_keys(self, element: Element) -> Kernel {
        self.choose([&BACKWARD_KEYS_64, &BACKWARD_KEYS_128, &BACKWARD_KEYS_256]).kernel(element)
    }

    fn choose(self, by_width: [&'static Operation; 3]) -> &'static Operation {
        match self.dim {
            0..=64 => by_width[0],
            65..=128 => by_width[1],
            _ => by_width[2],
        }
    }
}
