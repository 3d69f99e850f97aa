//! Cost of a training step in memory and arithmetic, computed without running it.

mod batch_size;
mod flops;
mod memory;
mod parameter_count;
mod phases;
mod planned;

pub use batch_size::BatchSize;
pub use flops::Flops;
pub(crate) use memory::dequantised_bytes;
pub use memory::{Footprint, MemoryDemand, TrainedElements};
