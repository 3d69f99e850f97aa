//! Data-parallel training over several processes: collectives, rendezvous and sharded weights.
//!
//! A [`Collective`] is one rank's handle on its group. Every rank must make the same calls in the
//! same order. Only the shards of a [`ShardedStore`] may be gathered by one rank while others do
//! something else.
//!
//! | type | the ranks of the group |
//! |---|---|
//! | [`SingleProcess`] | one process, the default |
//! | [`TcpGroup`] | processes that a launcher started ([`LaunchEnv`]), connected through rank 0 |
//! | `NcclGroup` (feature `nccl`) | the same processes, with tensors sent from GPU to GPU |
//! | [`ThreadRank`] | threads of one process, for tests |
//!
//! Callers hold a [`ProcessGroup`]: a collective, the local rank and, with `--shard`, the store of
//! sharded weights.
//!
//! ```
//! use prospect_dist::{Collective, on_threads};
//!
//! let sums = on_threads(3, |rank| {
//!     let mut values = [rank.rank() as f32 + 1.0];
//!     rank.all_reduce(&mut values).unwrap();
//!     values[0]
//! });
//! assert_eq!(sums, [6.0, 6.0, 6.0]);
//! ```

mod collective;
mod error;
mod launch_env;
#[cfg(feature = "nccl")]
mod nccl;
mod process_group;
mod sharded_store;
mod tcp;
mod threads;
mod zero_stage;

pub use collective::{Collective, DeviceCollective, PreparedGather, PreparedSum, Shard, SingleProcess};
pub use error::CollectiveError;
pub use launch_env::LaunchEnv;
#[cfg(feature = "nccl")]
pub use nccl::NcclGroup;
pub use process_group::ProcessGroup;
pub use sharded_store::{PendingGather, ShardedStore};
pub use tcp::TcpGroup;
pub use threads::{ThreadRank, on_threads};
pub use zero_stage::ZeroStage;
