//! The group that a process trains in.

use std::sync::Arc;

use crate::{Collective, CollectiveError, LaunchEnv, ShardedStore, SingleProcess};

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
    /// Store of sharded weights, with `--shard`. It is the same object as `collective`.
    pub sharded_store: Option<Arc<ShardedStore>>,
}

impl Default for ProcessGroup {
    fn default() -> Self {
        Self { collective: Arc::new(SingleProcess), local_rank: 0, sharded_store: None }
    }
}

impl ProcessGroup {
    /// Wraps a collective. With `shard`, frozen weights are sharded over its ranks.
    pub fn new(collective: Box<dyn Collective>, local_rank: usize, shard: bool) -> Self {
        if shard {
            let store = Arc::new(ShardedStore::new(collective));
            Self { collective: Arc::<ShardedStore>::clone(&store), local_rank, sharded_store: Some(store) }
        } else {
            Self { collective: Arc::from(collective), local_rank, sharded_store: None }
        }
    }

    /// Joins the group that a launcher started. Blocks until all ranks have joined.
    ///
    /// # Errors
    /// Fails if a rank does not join within [`LaunchEnv::rendezvous_timeout`].
    pub fn join(env: &LaunchEnv, shard: bool) -> Result<Self, CollectiveError> {
        Ok(Self::new(Box::new(Backend::join(env)?), env.local_rank, shard))
    }

    /// Returns true on rank 0, which decides and writes for all ranks.
    pub fn is_main_process(&self) -> bool {
        self.collective.rank() == 0
    }
}
