//! The group that a process trains in.

use std::sync::Arc;

use crate::{Collective, CollectiveError, LaunchEnv, ShardedStore, SingleProcess, ZeroStage};

#[cfg(feature = "nccl")]
use crate::NcclGroup as Backend;
#[cfg(not(feature = "nccl"))]
use crate::TcpGroup as Backend;

/// Process group of one process: its collective, local rank and sharded weights. The default is one
/// process.
#[derive(Debug, Clone)]
pub struct ProcessGroup {
    /// Collective operations with the other ranks.
    pub collective: Arc<dyn Collective>,
    /// Rank on this machine, which selects the GPU.
    pub local_rank: usize,
    /// Store of sharded weights, with `--shard`: another handle on `collective`.
    pub sharded_store: Option<ShardedStore>,
}

impl Default for ProcessGroup {
    fn default() -> Self {
        Self { collective: Arc::new(SingleProcess), local_rank: 0, sharded_store: None }
    }
}

impl ProcessGroup {
    /// Wraps a collective, over whose ranks `zero` shards models.
    pub fn new(collective: Box<dyn Collective>, local_rank: usize, zero: Option<ZeroStage>) -> Self {
        let Some(stage) = zero else {
            return Self { collective: Arc::from(collective), local_rank, sharded_store: None };
        };
        let store = ShardedStore::new(collective, stage);
        Self { collective: Arc::new(store.clone()), local_rank, sharded_store: Some(store) }
    }

    /// Joins the group that a launcher started. Blocks until all ranks have joined.
    ///
    /// # Errors
    /// Fails if a rank does not join within [`LaunchEnv::rendezvous_timeout`].
    pub fn join(env: &LaunchEnv, zero: Option<ZeroStage>) -> Result<Self, CollectiveError> {
        Ok(Self::new(Box::new(Backend::join(env)?), env.local_rank, zero))
    }

    /// Returns what training shards, if anything.
    pub fn zero(&self) -> Option<ZeroStage> {
        self.sharded_store.as_ref().map(ShardedStore::stage)
    }

    /// Returns true on rank 0, which decides and writes for all ranks.
    pub fn is_main_process(&self) -> bool {
        self.collective.rank() == 0
    }
}
